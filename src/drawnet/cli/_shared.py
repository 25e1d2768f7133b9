"""What the commands share: parsing, and what they refuse in one line."""

import contextlib
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from drawnet.cli import catalogue
from drawnet.errors import UserError
from drawnet.training.migration import FLAGS

if TYPE_CHECKING:
    from drawnet.data import Dataset
    from drawnet.training.checkpoint import SavedModel

DATA_DIR = "where data sets lie (default: $DRAWNET_DATA, else the user's cache folder)"
DataDir = Annotated[Path | None, tyro.conf.arg(help=DATA_DIR)]
Count = Annotated[int, tyro.conf.arg(aliases=["-n"])]
T = TypeVar("T")


def unnamed(command: str, arguments: Sequence[str]) -> bool:
    """Whether no recipe is named, which gets all their names; UserError for options without one."""
    if arguments and not arguments[0].startswith("-"):
        return False
    if arguments and arguments[0] not in ("-h", "--help"):
        raise UserError(f"drawnet {command}: name the recipe first (`drawnet list` shows them)")
    print(f"usage: drawnet {command} RECIPE [OPTIONS]\n\nrecipes:")
    print_table(catalogue.recipe_titles())
    print(f"\n`drawnet {command} RECIPE --help` shows the options and their values.")
    return True


def parse(kind: type[T], name: str, arguments: Sequence[str], default: Any = None) -> T:
    """A command's dataclass from its arguments; UserError in one line if they are wrong."""
    prog, options = (
        name if name.endswith(".py") else f"drawnet {name}",
        (tyro.conf.FlagCreatePairsOff,),
    )
    given = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, prog=prog, args=current(arguments), config=options, **given)  # type: ignore[no-any-return]
    except SystemExit as end:
        if not end.code:
            raise
        raise UserError(f"{prog}: {condensed(said.getvalue())}") from None


def current(arguments: Sequence[str]) -> list[str]:
    """The arguments with the options' present names in place of their former ones."""
    pairs = (word.partition("=") for word in arguments)
    return [FLAGS.get(name, name) + rest + value for name, rest, value in pairs]


def condensed(box: str) -> str:
    """One line of what tyro says in a box: the message, and the flag it takes you to have meant."""
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
    """UserError, before any work is done, if a file's suffix is none of these."""
    known = [name for kind in kinds for name in kind]
    if path and path.suffix.lower() not in known:
        raise UserError(f"{path} should end in {', '.join(known)}")


def trained(path: Path) -> "SavedModel":
    from drawnet.training import checkpoint

    return checkpoint.load_model(path)


def fits(model: "SavedModel", data: "Dataset") -> None:
    if tuple(data.shape) != model.network.shape:
        raise UserError(
            f"{data.name} has images of {data.shape}, the model draws {model.network.shape}"
        )


def print_table(rows: dict[str, str]) -> None:
    width = max(map(len, rows), default=0)
    for name, title in rows.items():
        print(f"  {name:<{width}}  {title}")
