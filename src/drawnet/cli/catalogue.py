"""Read titles, first lines of docstrings, from the source without importing it (or torch)."""

import ast
from pathlib import Path

from drawnet import models, recipes
from drawnet.errors import defining

PACKAGE = Path(__file__).parents[1]
GROUPS = {
    "train": "Train",
    "pictures": "Look and make pictures",
    "measure": "Measure",
    "data": "Find data and models",
    "publish": "Publish and export",
}
"""What people want, in the order of the help; a command's file names its group and its arguments."""


def commands() -> list[str]:
    """Return the commands: every file of this folder that defines `main`."""
    return [name for name in defining(PACKAGE / "cli", "def main(") if not name.startswith("_")]


def overview() -> str:
    """Return a line for each command, by group: its name, arguments and title."""
    lines = {key: [heading] for key, heading in GROUPS.items()}
    for name in commands():
        tree = _parsed(f"cli/{name}.py")
        group, words = next(
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and "GROUP" in ast.unparse(node.targets[0])
        )
        what = title(tree).removesuffix(".")
        lines[group].append(f"  {f'{name} {words}':<23} {what[0].lower()}{what[1:]}")
    return "\n".join(line for group in lines.values() if len(group) > 1 for line in group)


def title(node: ast.Module | ast.FunctionDef) -> str:
    """Return the first line of a docstring."""
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _parsed(path: str) -> ast.Module:
    return ast.parse((PACKAGE / path).read_text(encoding="utf-8"))


def _functions(path: str) -> dict[str, str]:
    nodes = (node for node in _parsed(path).body if isinstance(node, ast.FunctionDef))
    return {node.name: title(node) for node in nodes if not node.name.startswith("_")}


def model_titles() -> dict[str, str]:
    """Return every model: file name -> title."""
    return {name: title(_parsed(f"models/{name}.py")) for name in models.names()}


def data_titles() -> dict[str, str]:
    """Return every data set: file name -> title."""
    return {
        name: title(_parsed(f"data/{name}.py")) for name in defining(PACKAGE / "data", "INFO = ")
    }


def recipe_titles() -> dict[str, str]:
    """Return every recipe: function name -> title."""
    files = {name: _functions(f"recipes/{name}.py") for name in set(recipes.names().values())}
    return {name: files[file][name] for name, file in recipes.names().items()}
