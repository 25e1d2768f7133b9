"""Code shared by the commands: parsing, and checks that fail with one line."""

import contextlib
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from drawnet.cli import catalogue
from drawnet.errors import (
    UserError,
    check_source,
    check_target,
    check_targets,
    choose,
    expand,
    kind_of,
)
from drawnet.training.migration import FLAGS

if TYPE_CHECKING:
    from drawnet.data import Dataset
    from drawnet.training.checkpoint import SavedModel

SIZE = int | tuple[int, int]
"""The type of a side, or of height and width."""
RULES = ConstructorRegistry()
DATA_DIR = "folder of the data sets (default: $DRAWNET_DATA, else the user's cache folder)"
DATA_NAME = "the run's data, if they have moved, or others (default: those that it was trained on)"
DataName = Annotated[str | None, tyro.conf.arg(name="data.name", help=DATA_NAME)]
DataDir = Annotated[Path | None, tyro.conf.arg(help=DATA_DIR)]
KERNELS = "C kernels, each after a comparison with its formula; off: PyTorch formulas alone"
Kernels = Annotated[Literal["auto", "off"], tyro.conf.arg(help=KERNELS)]
DEVICE = "cpu, cuda, cuda:1, mps or xpu; auto: an accelerator if torch finds one, else the CPU"
Device = Annotated[str, tyro.conf.arg(help=DEVICE)]
Count = Annotated[int, tyro.conf.arg(aliases=["-n"])]
CountOrAll = Annotated[int | None, tyro.conf.arg(aliases=["-n"])]
T = TypeVar("T")


class OutPath(str):
    """A file to write, or a folder of single files: one that is there, or a name that ends in /."""

    @property
    def path(self) -> Path:
        return expand(Path(self))

    @property
    def folder(self) -> Path | None:
        """The folder; None for a file.  UserError for an empty name."""
        if not self:
            raise UserError("'' is no name: name a file, or a folder that ends in /")
        ends = tuple(filter(None, (os.sep, os.altsep)))
        return self.path if self.endswith(ends) or kind_of(self.path) == "folder" else None

    @property
    def file(self) -> Path | None:
        return self.path if self.folder is None else None


def unnamed(command: str, arguments: Sequence[str]) -> bool:
    """Print the recipes and return True if none is named; UserError for options without a recipe."""
    if arguments and not arguments[0].startswith("-"):
        return False
    if arguments and arguments[0] not in ("-h", "--help"):
        raise UserError(f"drawnet {command}: name the recipe first (`drawnet list` shows them)")
    print(f"usage: drawnet {command} RECIPE [OPTIONS]\n\nrecipes:")
    print_table(catalogue.recipe_titles())
    print(f"\n`drawnet {command} RECIPE --help` shows the options and their values.")
    return True


def parse(kind: type[T], name: str, arguments: Sequence[str], default: Any = None) -> T:
    """Parse arguments into a command's dataclass; UserError in one line if they are invalid."""
    prog, options = (
        name if name.endswith(".py") else f"drawnet {name}",
        (tyro.conf.FlagCreatePairsOff,),
    )
    defaults = {} if default is None else {"default": default}
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) < 40:
        os.environ["COLUMNS"] = "40"  # tyro does not come to an end in fewer
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            words = current(arguments)
            found = tyro.cli(
                kind, prog=prog, args=words, config=options, registry=RULES, **defaults
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise UserError(f"{prog}: {condensed(stderr.getvalue())}") from None
    return cast(T, expanded(found))


def expanded(command: Any) -> Any:
    """Return a command with home folders in place of a leading ~ in all its paths."""
    changed: dict[str, Any] = {}
    for field in fields(command):
        value = getattr(command, field.name)
        if isinstance(value, Path):
            changed[field.name] = expand(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Path):
            changed[field.name] = tuple(map(expand, value))
    return replace(command, **changed)


@RULES.primitive_rule
def _size(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Parse 28 as a side and 20x40 as height and width, in one word."""

    def parsed(words: list[str]) -> int | tuple[int, ...]:
        sides = words[0].lower().split("x")
        if len(sides) > 2 or not all(side.isdecimal() and len(side) < 10 for side in sides):
            raise ValueError(f"{words[0]!r} is neither a side (28) nor height x width (20x40)")
        return int(sides[0]) if len(sides) == 1 else tuple(map(int, sides))

    if info.type != SIZE:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="SIDE|HxW",
        instance_from_str=parsed,
        is_instance=lambda value: isinstance(value, int | tuple),
        str_from_instance=lambda v: ["x".join(map(str, v)) if isinstance(v, tuple) else str(v)],
    )


@RULES.primitive_rule
def _out_path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[OutPath] | None:
    if info.type is not OutPath:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: OutPath(words[0]),
        is_instance=lambda value: isinstance(value, OutPath),
        str_from_instance=lambda value: [str(value)],
    )


def current(arguments: Sequence[str]) -> list[str]:
    """Replace former names of options by their present ones."""
    pairs = (word.partition("=") for word in arguments)
    return [FLAGS.get(name, name) + rest + value for name, rest, value in pairs]


def condensed(box: str) -> str:
    """Condense tyro's error box to one line: the message and the suggested flag."""
    lines = [re.sub(r"[─-]{5,}|[│╭╮╰╯]", "", line).strip() for line in box.splitlines()]
    text = " ".join(line for line in lines[1:] if line)
    message = re.split(r"Perhaps you meant|Argument helptext|For full helptext", text)[0].strip(
        " :"
    )
    meant = re.search(r"Perhaps you meant:\s+(\S+)", text)
    return message + (f"; did you mean {meant[1]}?" if meant else "")


def positive(value: int | None, flag: str) -> None:
    if value is not None and value < 1:
        raise UserError(f"{flag} must be at least 1, not {value}")


def suffix(path: Path | None, *kinds: Iterable[str]) -> None:
    """Raise UserError, before any work is done, if a file's suffix is not one of these."""
    if path:
        check_target(path)
    known = [name for kind in kinds for name in kind]
    if path and path.suffix.lower() not in known:
        raise UserError(f"{path} should end in {', '.join(known)}")


def check_out(out: OutPath, *kinds: Iterable[str]) -> None:
    """Raise UserError for a name that is neither a folder nor ends in one of these."""
    known = dict.fromkeys(name for kind in kinds for name in kind)
    if out.folder is None and out.path.suffix.lower() not in known:
        check_target(out.path)
        raise UserError(f"{out} should end in {', '.join(known)}, or in / for a folder")


def outputs(*paths: Path | None, models: Sequence[Path] = (), files: Sequence[Path] = ()) -> None:
    """Raise UserError, before any work is done, for files that cannot be read or written.

    Folders among `files` are left to their reader.
    """
    from drawnet.training import checkpoint

    sources = [*map(checkpoint.located, models), *(f for f in files if kind_of(f) != "folder")]
    check_targets(*paths, sources=[check_source(path) for path in sources])


def trained(path: Path, device: str, kernels: str = "auto") -> "SavedModel":
    from drawnet.training import checkpoint

    return checkpoint.load_model(path, kernels, device)


def open_data(model: "SavedModel", name: str | None, data_dir: Path | None) -> "Dataset":
    """Load the data of a model's run, or those of this name; UserError if they do not fit the model."""
    from drawnet.data import manifest

    data = manifest.load(model.run.data, model.data, data_dir, name)
    if tuple(data.shape) != model.network.shape:
        raise UserError(
            f"{data.name} has images of {data.shape}, the model draws {model.network.shape}"
        )
    names = model.data.classes if model.data else ()
    if model.network.classes and names and data.classes not in ((), names):
        raise UserError(
            f"{data.name} has the classes {', '.join(data.classes)}; the model was trained on "
            f"{', '.join(names)}"
        )
    manifest.say_changes(model.data, data)
    return data


def label_numbers(model: "SavedModel", words: Sequence[str]) -> list[int]:
    """Return the labels that words stand for: names of classes, where the model has them, or numbers."""
    names = model.data.classes if model.data else ()
    return [_label(word, names) for word in words]


def _label(word: str, names: Sequence[str]) -> int:
    if word in names:
        return names.index(word)
    if word.removeprefix("-").isdecimal() and len(word) < 10:
        return int(word)
    if not names:
        raise UserError(f"--label {word} is no number, and the model knows no names of classes")
    return names.index(choose("class", word, names))


def print_table(rows: dict[str, str]) -> None:
    width = max(map(len, rows), default=0)
    for name, title in rows.items():
        print(f"  {name:<{width}}  {title}")
