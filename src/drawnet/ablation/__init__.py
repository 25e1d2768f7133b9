"""Ablation of DRAW: variants of a recipe under one budget, and their table."""

import ast
from pathlib import Path


def titles() -> dict[str, str]:
    """Return every variant and what it changes, in the order of their file, without importing it."""
    tree = ast.parse(Path(__file__).with_name("variants.py").read_text(encoding="utf-8"))
    return {
        node.name: (ast.get_docstring(node) or "").partition("\n")[0]
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
