"""Many pictures, opened one at a time, with what their source says of labels and splits."""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drawnet.data.io.pictures import Background, Header, Look, header, read, survey
from drawnet.errors import UserError

SPLIT_WORDS = {
    "train": "train", "training": "train",
    "val": "valid", "valid": "valid", "validation": "valid", "dev": "valid",
    "test": "test", "testing": "test", "t10k": "test",
}  # fmt: skip
"""Words in the names of folders, files and arrays that stand for a split."""
LABEL_WORDS = (
    "label", "labels", "fine_label", "fine_labels", "y", "target", "targets", "class", "classes",
)  # fmt: skip
"""Names of labels in tables and archives, the first that is there."""
HIGHEST = 2**31 - 1
"""The highest label."""


class Own(NamedTuple):
    """How to read a user's own data: options of `data.images.load`."""

    layout: str | None = None
    key: str | None = None
    labels: str | None = None
    background: Background = "auto"


@dataclass(frozen=True)
class Labels:
    """The label of each picture.

    numbers  int64 (N,), -1 where there is none
    names    of the classes 0, 1, …; () if they are known as numbers only
    """

    numbers: NDArray[np.int64]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pictures:
    """Pictures that are opened one at a time.

    names   decide the splits where there are none: a picture's name never changes
    opened  'L' or 'RGB' picture k, or UserError
    size    (height, width) if all have the same, else None
    grey    whether all are known to be grey
    splits  'train', 'valid' or 'test' of each; () if they are not divided
    """

    names: list[str]
    opened: Callable[[int], Image.Image]
    size: tuple[int, int] | None = None
    grey: bool = False
    labels: Labels | None = None
    splits: Sequence[str] = field(default=())


def note(text: str) -> None:
    """Say what a reader should know of how the data were read, in one line."""
    warnings.warn(text, stacklevel=2)


def gathered(
    names: list[str],
    sources: Sequence[Path | bytes],
    place: Callable[[int], str],
    where: object,
    background: Background,
    headers: list[Header | None] | None = None,
) -> Pictures:
    """Collect encoded pictures, in files or memory, under one look; `place` names them in errors."""
    headers = [header(source) for source in sources] if headers is None else headers
    look, said = survey(sources, headers)
    if background != "auto":
        look = Look(look.white, {"white": 255, "black": 0}[background])
    elif said:
        note(f"{where}: {said}")
    sizes = {known.size for known in headers if known}
    size = sizes.pop() if len(sizes) == 1 else None
    return Pictures(names, lambda k: read(sources[k], place(k), look), size)


def split_of(name: str) -> tuple[str, str]:
    """Return the split that a word of a name stands for, and the other words; '' if there is none.

    'train_images' is ('train', 'images'), 'x' is ('', 'x').
    """
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    splits = [word for word in words if word in SPLIT_WORDS]
    if len(splits) != 1:
        return "", name
    return SPLIT_WORDS[splits[0]], "_".join(word for word in words if word not in splits)


def numbered(values: Sequence[Any], where: str, names: tuple[str, ...] = ()) -> Labels | None:
    """Number labels: integers stand for themselves, words for their place in the order of all.

    None where there is no label at all.  `where` names a label by its place: 'x.parquet, row'.
    """
    cells = [_label(value, where, k) for k, value in enumerate(values)]
    words = {cell for cell in cells if isinstance(cell, str)}
    if words and any(isinstance(cell, int) and cell >= 0 for cell in cells):
        raise UserError(f"{where}s have labels of two kinds, words and numbers: use one of them")
    if words:
        names = ordered(words)
        numbers = {name: k for k, name in enumerate(names)}
        cells = [numbers[cell] if isinstance(cell, str) else -1 for cell in cells]
    found = np.array(cells, np.int64)
    return Labels(found, names) if (found >= 0).any() else None


def ordered(names: set[str]) -> tuple[str, ...]:
    """Sort the names of classes: as numbers, if all are, else as text."""
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numbers else (0, name)))


def _label(value: Any, where: str, k: int) -> int | str:
    """Return a label as an integer, -1 for none, or a word; UserError for anything else."""
    value = value.item() if isinstance(value, np.generic) else value
    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if value is None or isinstance(value, str):
        return value if value else -1
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or value > HIGHEST:
        raise UserError(
            f"{where} {k}: the label is {value!r}: use words or integers from 0 to {HIGHEST:,}, "
            "or choose other labels by labels=..., 'none' for none"
        )
    return max(-1, int(value))


def one(key: str | None, able: Sequence[str], kind: str, path: Path) -> str:
    """Return `key` if it is able to serve, or the only name that is; else UserError."""
    if key is not None and key in able:
        return key
    if key is None and len(able) == 1:
        return able[0]
    has = f"it has {', '.join(able)}: choose one by key=..." if able else "it has none"
    raise UserError(f"{path}: no {kind} {key!r}, {has}" if key else f"{path}: which {kind}? {has}")
