"""The one exception that users see, and its most frequent causes."""

import difflib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class UserError(Exception):
    """An error that the user can fix: one line saying what is wrong, where, and what to do.

    The command line prints the line and exits with status 2; a library user may catch it.
    """


def at_least(config: Any, low: int, *names: str) -> None:
    """Raise UserError if one of these settings of a model is less than `low` or not finite."""
    for name in names:
        value = getattr(config, name)
        if not low <= value < math.inf:
            raise UserError(f"--model.{name} must be at least {low}, not {value}")


def check_target(path: Path) -> Path:
    """Return the file that `path` leads to, if one lies there or can; else UserError."""
    try:
        real = path.resolve()
        if path.name in ("", "..") or real.is_dir():
            raise UserError(f"{str(path)!r} is a folder: name a file")
        if real.exists() and not real.is_file():
            raise UserError(f"{path} is a device, pipe or socket: name a file")
    except (OSError, RuntimeError, ValueError) as why:
        raise UserError(f"{str(path)!r} cannot be written: {why}") from why
    return real


def defining(folder: Path, text: str) -> list[str]:
    """Return the Python files of a folder with a line beginning so, by name, without importing them."""
    files = sorted(folder.glob("*.py"))
    return [f.stem for f in files if f"\n{text}" in f.read_text(encoding="utf-8")]


def choose(kind: str, name: str, names: Iterable[str]) -> str:
    """Return the name if it is one of the names; else raise UserError with the closest match."""
    names = list(names)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
    raise UserError(f"no {kind} is called {name!r}; {hint}")
