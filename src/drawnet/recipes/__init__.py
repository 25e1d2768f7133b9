"""Whole runs as functions; a recipe is any public function in a file of this folder."""

import importlib
from typing import Any

from drawnet import listing
from drawnet.run import Run


def get(name: str) -> Run[Any]:
    """The run that a recipe describes; UserError with the nearest name if there is none."""
    known = listing.recipes()
    module = importlib.import_module(
        f"drawnet.recipes.{known[listing.choose('recipe', name, known)][0]}"
    )
    return getattr(module, name)()  # type: ignore[no-any-return]
