"""What files of earlier versions call by other names: read as what it is called now."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

V = TypeVar("V")

CONFIG = {"halvings": "num_downsamples", "spoiled": "corruption"}
"""Fields of models' configurations."""
PROGRESS = {"seen": "examples_seen", "row": "consecutive_skips"}
FLAGS = {
    "--film": "--trajectory",
    "--model.halvings": "--model.num-downsamples",
    "--model.spoiled": "--model.corruption",
}
"""Options of the command line, which this release still takes under their old names."""
TENSORS = {"glimpse": {"look.": "next_read."}}
"""Parts of the names of a model's tensors."""


def renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The values under today's names."""
    return {names.get(name, name): value for name, value in values.items()}


def tensors(kind: str, values: Mapping[str, V]) -> dict[str, V]:
    """The tensors of a model or of a checkpoint of it under today's names."""
    found = dict(values)
    for old, new in TENSORS.get(kind, {}).items():
        place = re.compile(rf"(^|\.){re.escape(old)}")
        found = {place.sub(rf"\g<1>{new}", name): value for name, value in found.items()}
    return found
