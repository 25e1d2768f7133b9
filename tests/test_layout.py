"""The file tree is the architecture: few rooms, and imports that point one way."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import drawnet

PACKAGE = Path(drawnet.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LEVEL = {
    "errors": 0,
    "nn": 1,
    "data": 2, "kernels": 2,
    "models": 3,
    "weights": 3,
    "training": 4, "evaluation": 4, "drawing": 4, "ablation": 4, "recipes": 4,
    "compression": 4, "export": 4,
    "cli": 5, "demo": 5,
}  # fmt: skip
"""A part imports from its own level or from below."""
NEVER = {("data", "kernels"), ("kernels", "data"), ("data", "models"), ("models", "kernels")}


def name_of(path: Path) -> str:
    """'models.draw' for models/draw.py, 'models' for models/__init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in FILES}


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports anywhere, not for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "drawnet":
            base = (node.module or "").partition(".")[2]
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                if (found := full if full in MODULES else base) in MODULES:
                    yield found


def test_the_top_has_at_most_fifteen_entries():
    names = {p.name for p in PACKAGE.iterdir() if not p.name.startswith("__")} - {"py.typed"}
    assert len(names) <= 15, sorted(names)
    assert {name.removesuffix(".py") for name in names} == LEVEL.keys()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_one_way(path):
    here = name_of(path).partition(".")[0]
    for module in imports(path) if here in LEVEL else ():
        there = module.partition(".")[0]
        if there in LEVEL:
            assert LEVEL[there] <= LEVEL[here], f"{here} imports {module}"
            assert (here, there) not in NEVER, f"{here} imports {module}"


def test_no_module_imports_itself_in_a_circle():
    graph = {name: set(imports(path)) - {""} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " imports ".join((*path[path.index(name) :], name))
        if name not in done:
            for other in graph[name] - {name}:
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_formulas_know_of_no_kernel():
    for folder in ("nn", "models"):
        for path in (PACKAGE / folder).glob("*.py"):
            assert "kernels" not in {module.partition(".")[0] for module in imports(path)}, path


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_can_be_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("name", drawnet.__all__)
def test_a_public_name_is_the_same_thing_twice(name):
    first = getattr(drawnet, name)
    importlib.import_module(first.__module__)
    assert getattr(drawnet, name) is first
    namespace: dict[str, object] = {}
    exec(f"from drawnet import {name}", namespace)
    assert namespace[name] is first
