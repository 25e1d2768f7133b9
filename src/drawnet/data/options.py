"""Options of data sets: keyword arguments of their `load`, checked against its annotations."""

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from drawnet.errors import UserError, choose

_WORDS = {int: "an integer", bool: "true or false", str: "text", Path: "a path", type(None): ""}


def checked(function: Callable[..., Any], options: dict[str, Any], name: str) -> dict[str, Any]:
    """Return options of a data set's `load` in the types that it takes; UserError for any other."""
    known = list(inspect.signature(function).parameters)[1:]
    hints = get_type_hints(function)
    for option in options:
        choose(f"option of data set {name!r}", option, known or ["(none)"])
    return {
        option: _fitting(f"{name}: {option}", value, hints[option])
        for option, value in options.items()
    }


def _fitting(option: str, value: Any, hint: Any) -> Any:
    for candidate in (value, str(value)):  # a name may be a number
        if _fits(candidate, hint):
            return candidate
    *rest, last = _allowed(hint)
    allowed = f"{', '.join(rest)} or {last}" if rest else last
    raise UserError(f"{option} is {value!r}: choose {allowed}")


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        same = isinstance(value, tuple) and len(value) == len(parts)
        return same and all(_fits(v, p) for v, p in zip(value, parts, strict=True))
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))


def _allowed(hint: Any) -> list[str]:
    """Say in words what an option takes."""
    if get_origin(hint) in (Union, types.UnionType):
        return [word for part in get_args(hint) for word in _allowed(part)]
    if get_origin(hint) is Literal:
        return [repr(value) for value in get_args(hint)]
    if get_origin(hint) is tuple:
        return ["height and width"]
    return [word] if (word := _WORDS.get(hint, hint.__name__)) else []
