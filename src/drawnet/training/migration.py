"""Names in files of earlier versions, converted to the present ones on reading."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

V = TypeVar("V")

CONFIG = {"halvings": "num_downsamples", "spoiled": "corruption"}
"""Fields of models' configurations."""
LACKING: dict[str, dict[str, Any]] = {
    "gan": {
        "prior": "uniform",
        "updates": "in_turn",
        "discriminator_weight": 1.0,
        "longest": 1.9365,
    }
}
"""Values of fields that models' configurations of earlier versions did not have, by the model's kind."""
PROGRESS = {"seen": "examples_seen", "row": "consecutive_skips"}
FLAGS = {
    "--film": "--trajectory",
    "--tensorboard": "--log=tensorboard",
    "--model.halvings": "--model.num-downsamples",
    "--model.spoiled": "--model.corruption",
}
"""Options of the command line that this release still accepts under their former names."""
TENSORS = {
    "glimpse": {"look.": "next_read."},
    "patch_draw": {"read.": "read_net.", "write.": "write_net."},
}
"""Parts of the names of a model's tensors."""


def renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the values under their present names."""
    return {names.get(name, name): value for name, value in values.items()}


def tensors(kind: str, values: Mapping[str, V]) -> dict[str, V]:
    """Return the tensors of a model, or of a checkpoint of it, under their present names."""
    found = dict(values)
    for old, new in TENSORS.get(kind, {}).items():
        place = re.compile(rf"(^|\.){re.escape(old)}")
        found = {place.sub(rf"\g<1>{new}", name): value for name, value in found.items()}
    return found
