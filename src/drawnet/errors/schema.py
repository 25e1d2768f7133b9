"""What is read back is checked against dataclasses, its schema: types and ranges stand at their fields.

pydantic converts, strictly: "1.5" is no number, true is no integer, an integer is a number, and a key
that no field has is refused.  The one place that parses JSON; what misfits is one line.
"""

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    AfterValidator,
    AllowInfNan,
    NonNegativeInt,
    PlainValidator,
    PositiveInt,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from drawnet.errors import UserError, check_source, reason

T = TypeVar("T")

Positive = Annotated[float, Gt(0), AllowInfNan(False)]
NonNegative = Annotated[float, Ge(0), AllowInfNan(False)]
Decay = Annotated[float, Ge(0), Lt(1)]
"""What is left of a value after a step."""
ImportanceSamples = Annotated[int, Ge(1), Le(1_000_000)]
"""K of a K-sample bound; more would take days for a single image."""
SeveralDraws = Annotated[int, Ge(2), Le(10_000)]
Share = Annotated[float, Ge(0), Le(1)]

ESCAPED = {0xDC80 + k: 0xF780 + k for k in range(128)}
"""Bytes of a path that is not UTF-8, which Python holds as surrogates and pydantic refuses."""
PathText = Annotated[
    str, AfterValidator(lambda text: text.translate({v: k for k, v in ESCAPED.items()}))
]
"""A path, or a name from one."""

__all__ = [
    "Decay",
    "Ge",
    "Gt",
    "ImportanceSamples",
    "Le",
    "NonNegative",
    "NonNegativeInt",
    "Positive",
    "PositiveInt",
    "SeveralDraws",
    "Share",
    "by",
    "check",
    "convert",
    "gathered",
    "load",
    "parse",
    "read",
    "rule",
]  # fmt: skip


def check(settings: Any, prefix: str = "--") -> None:
    """Raise UserError if a field of a dataclass made in Python or by flags is not what it declares."""
    for name, adapter in _adapters(cast(Any, type(settings))).items():
        try:
            adapter.validate_python(getattr(settings, name), strict=True)
        except ValidationError as why:
            raise UserError(_line(prefix + name.replace("_", "-"), why)) from why


def read(path: Path, kind: type[T]) -> T:
    """Read a JSON file; UserError, with its name, if it is not what `kind` declares."""
    return convert(parse(load(path), path), kind, path)


def load(path: Path) -> bytes:
    """Return a file's content; UserError if it cannot be read."""
    try:
        return check_source(path).read_bytes()
    except OSError as why:
        raise UserError(f"{path} cannot be read: {reason(why)}") from why


def parse(text: str | bytes, where: object) -> Any:
    """Parse JSON; UserError, which begins with `where`, for other text or a nesting too deep."""
    try:
        return json.loads(text)
    except RecursionError as why:
        raise UserError(f"{where} is not JSON: it is nested too deep") from why
    except ValueError as why:
        raise UserError(f"{where} is not JSON: {why}") from why


def convert(values: Any, kind: type[T], where: object) -> T:
    """Convert JSON values to what `kind` declares; UserError, beginning with `where`, if they misfit."""
    try:
        return cast(T, _converted(values, kind))
    except ValidationError as why:
        raise UserError(_line(f"{where}: ", why)) from why
    except UserError as why:  # settings that do not go together
        raise UserError(f"{where}: {why}") from why


def by(choose: Callable[[dict[str, Any]], tuple[Any, dict[str, Any]]]) -> PlainValidator:
    """Declare a field whose JSON object `choose` maps to its dataclass and that one's values."""

    def converted(values: Any) -> Any:
        if is_dataclass(values):
            return values
        return _converted(*reversed(choose(dict(_converted(values, dict[str, Any])))))

    return PlainValidator(converted)


def rule(allows: Callable[[Any], bool], allowed: str) -> AfterValidator:
    """Declare what a field's values must be, in words that follow 'it must be'."""

    def checked(value: Any) -> Any:
        if not allows(value):
            raise ValueError(f"it must be {allowed}")
        return value

    return AfterValidator(checked)


def gathered(values: dict[str, Any], kind: type[Any], into: str) -> dict[str, Any]:
    """Return the values with those that no field of the dataclass takes moved into one of its fields."""
    known = {f.name for f in fields(kind)}
    rest = {k: v for k, v in values.items() if k not in known}
    return {k: v for k, v in values.items() if k in known} | ({into: rest} if rest else {})


def _converted(values: Any, kind: Any) -> Any:
    text = json.dumps(values, ensure_ascii=False).translate(ESCAPED).encode(errors="replace")
    return _adapter(kind).validate_json(text, strict=True, extra="forbid")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(kind)
    except PydanticUserError as why:
        line = str(why).partition("\n")[0]
        raise UserError(f"{kind.__name__} cannot be read from JSON: {line}") from why


@cache
def _adapters(kind: Any) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(kind, include_extras=True)
    return {f.name: _adapter(hints[f.name]) for f in fields(kind)}


def _line(where: str, why: ValidationError) -> str:
    """Say which field has which value, and what is allowed."""
    error = why.errors(include_url=False)[0]
    name = (where + ".".join(map(str, error["loc"]))).removesuffix(": ")
    if error["type"] == "missing":
        return f"{name} is missing"
    if error["type"] == "unexpected_keyword_argument":
        return f"{name} is unknown to this version of drawnet"
    value = json.dumps(error["input"], default=repr)
    short = value if len(value) <= 60 else value[:57] + "…"
    allowed = error["msg"].removeprefix("Value error, ").replace("Input should", "it must", 1)
    return f"{name} is {short}; {allowed}"
