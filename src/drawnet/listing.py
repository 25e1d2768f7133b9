"""What stands in a folder of the package, read from the source without importing it."""

import ast
import difflib
from collections.abc import Iterable
from pathlib import Path

from drawnet.errors import UserError

HOUSE = Path(__file__).parent
WEIGHTS = HOUSE / "weights"


def files(folder: str) -> dict[str, ast.Module]:
    """The modules of a folder by name, parsed."""
    return {
        path.stem: ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted((HOUSE / folder).glob("*.py"))
        if not path.stem.startswith("_")
    }


def title(node: ast.Module | ast.FunctionDef) -> str:
    """The first line of a docstring."""
    return (ast.get_docstring(node) or "").partition("\n")[0]


def models() -> dict[str, str]:
    """Every model: file name -> title."""
    return {name: title(tree) for name, tree in files("models").items()}


def recipes() -> dict[str, tuple[str, str]]:
    """Every recipe: function name -> (module, title)."""
    return {
        node.name: (module, title(node))
        for module, tree in files("recipes").items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def weights() -> dict[str, Path]:
    """The trained models that come with the package: name -> file."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}


def variants() -> dict[str, str]:
    """Every variant of the ablation study, in the order of the file: function name -> title."""
    tree = ast.parse((HOUSE / "variants.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name: title(node) for node in functions if not node.name.startswith("_")}


def choose(kind: str, name: str, names: Iterable[str]) -> str:
    """The name if it is one of the names; else UserError, with the nearest."""
    names = list(names)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
    raise UserError(f"no {kind} is called {name!r}; {hint}")
