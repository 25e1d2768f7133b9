"""Complete runs as functions; a recipe is any public function in a file of this folder."""

import ast
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drawnet.errors import choose

if TYPE_CHECKING:
    from drawnet.training.config import Run


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
    known = names()
    module = importlib.import_module(f"drawnet.recipes.{known[choose('recipe', name, known)]}")
    return getattr(module, name)()  # type: ignore[no-any-return]
