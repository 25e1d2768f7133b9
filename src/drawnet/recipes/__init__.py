"""Complete runs as functions; a recipe is any public function in a file of this folder."""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from drawnet.errors import choose

if TYPE_CHECKING:
    from drawnet.data import Dataset
    from drawnet.data.config import Data
    from drawnet.training.config import Run

    Chooser = Callable[[Data, Path | Dataset | None], tuple[Run[Any], Dataset, list[str]]]


def names() -> dict[str, str]:
    """Return every recipe and its file, read without importing it."""
    return {
        node.name: path.stem
        for path in sorted(Path(__file__).parent.glob("[!_]*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def get(name: str) -> "Run[Any]":
    """Return the run that a recipe describes; UserError with the closest name if there is none."""
    return getattr(_module(name), name)()  # type: ignore[no-any-return]


def chooser(name: str) -> "Chooser | None":
    """Return `choose_run` of a recipe's file, which looks at the data, if it is there."""
    return getattr(_module(name), "choose_run", None)


def _module(name: str) -> ModuleType:
    known = names()
    return importlib.import_module(f"drawnet.recipes.{known[choose('recipe', name, known)]}")
