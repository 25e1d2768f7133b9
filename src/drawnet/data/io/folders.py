"""A folder as people have them: pictures in class and split sub-folders, IDX pairs or parquet shards."""

import os
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from drawnet.data.io.arrays import from_idx
from drawnet.data.io.collection import (
    SPLIT_WORDS,
    Labels,
    Own,
    Pictures,
    gathered,
    note,
    numbered,
)  # fmt: skip
from drawnet.data.io.pictures import SUFFIXES, Header, header
from drawnet.data.io.tables import from_parquet
from drawnet.errors import UserError

SHARDS = (".parquet",)
IDX = ("-ubyte", ".idx", "-ubyte.gz", ".idx.gz")
"""Ends of the names of parquet and IDX files."""


def from_folder(folder: Path, own: Own) -> Pictures:
    """Open the pictures of a folder and its sub-folders, whatever their names end in.

    Names are relative and in one Unicode form, so that no file system changes a split.  Sub-folders
    train, val (valid, validation) and test are splits; sub-folders, within them or not, are classes.
    A folder without pictures may hold IDX files or parquet shards.
    """
    files = dict(sorted(_files(folder)))
    headers = {name: header(path) for name, path in files.items()}
    names = [
        name
        for name, found in headers.items()
        if found or (name.lower().endswith(SUFFIXES) and files[name].is_file())
    ]
    if names:
        return _from_pictures(folder, own, files, headers, names)
    for ends, opened in ((SHARDS, from_parquet), (IDX, from_idx)):
        if arrays := {name: path for name, path in files.items() if name.lower().endswith(ends)}:
            _say_unread(folder, files, arrays)
            return opened(arrays, folder, own)
    raise UserError(f"{folder} has no pictures, and no IDX or parquet files")


def _from_pictures(
    folder: Path,
    own: Own,
    files: dict[str, Path],
    headers: dict[str, Header | None],
    names: list[str],
) -> Pictures:
    splits = _splits(names)
    divided = any(splits)
    if divided:
        names = [name for name, split in zip(names, splits, strict=True) if split]
        splits = [split for split in splits if split]
    _say_unread(folder, files, names)
    found = gathered(
        names,
        [files[name] for name in names],
        lambda k: str(files[names[k]]),
        folder,
        own.background,
        [headers[name] for name in names],
    )
    labels = None if own.labels == "none" else _classes(folder, names, divided)
    return replace(found, labels=labels, splits=splits if divided else ())


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield what a folder holds, links to folders followed once, hidden names left out."""
    entered: set[tuple[int, int]] = set()

    def refuse(why: OSError) -> None:
        raise UserError(f"cannot read {why.filename}: {why.strerror}") from why

    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        state = Path(root).stat()
        if (state.st_dev, state.st_ino) in entered:  # a link in a circle
            folders.clear()
            continue
        entered.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if name[0] != "." and name != "__MACOSX")
        for name in names:
            path = Path(root, name)
            relative = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
            if name[0] != ".":
                yield relative, path


def _splits(names: list[str]) -> list[str]:
    """Return the split of each name by its first folder; '' for all, unless there is train and another.

    A folder 'train' beside folders of other words is a class of vehicles.
    """
    tops = [name.split("/")[0].lower() if "/" in name else "" for name in names]
    found = [SPLIT_WORDS.get(top, "") for top in tops]
    divided = "train" in found and (len(set(found) - {""}) > 1 or "" not in found)
    return found if divided else [""] * len(names)


def _classes(folder: Path, names: list[str], divided: bool) -> Labels | None:
    """Take the sub-folder of each picture for its class, if all lie in two sub-folders or more."""
    parts = [PurePosixPath(name).parts[divided:-1] for name in names]
    while all(parts) and len({part[0] for part in parts}) == 1:  # one folder around all others
        parts = [part[1:] for part in parts]
    words = [part[0] if part else "" for part in parts]
    outside = [name for name, word in zip(names, words, strict=True) if not word]
    classes = set(words) - {""}
    if outside and len(classes) > 1 and not divided:
        note(
            f"{folder}: no classes, as {len(outside)} of {len(names)} pictures lie outside the "
            f"sub-folders ({outside[0]})"
        )
        return None
    if len(classes) < 2:
        return None
    return numbered([word or None for word in words], f"{folder}, picture")


def _say_unread(folder: Path, files: Collection[str], read: Collection[str]) -> None:
    if names := sorted(set(files) - set(read)):
        first = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        count = f"{len(names)} of {len(files)} files"
        note(f"{folder}: not read, as no pictures or of no split: {count} ({first})")
