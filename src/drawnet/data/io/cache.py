"""Decoded images kept in the user's cache folder, so that a second start maps them at once."""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from drawnet.data import Images
from drawnet.data.io.files import reading

_VERSION = 1  # of what decoding means; a higher one leaves everything kept before unused


def cached(
    sources: Sequence[Path], decode: Callable[[], Images], *settings: str | int, name: str = ""
) -> Images:
    """`decode()`, or what it gave when `sources` were as now: their paths, sizes and times.

    settings  what else decides the result; all of it, where there are no sources
    name  what the file's name starts with; else the first source's

    The pixels are memory-mapped: processes share one copy, nothing is read before it is used, and
    a write stays in the writer's memory. What is kept is whole or not there; what cannot be read
    is decoded anew. A cache folder that cannot be written is reported, and decoding goes on.
    """
    stem = folder() / f"{name or sources[0].stem}-{_key(sources, settings)}"
    if (found := _found(stem)) is None:
        images = decode()
        labels = np.empty(0, np.int64) if images.labels is None else images.labels
        try:
            _write(_labels(stem), labels)
            _write(_pixels(stem), images.pixels[:])  # last: with it, all is there
        except OSError as error:
            warnings.warn(
                f"decoded images are not kept, {folder()}: {error.strerror or error}", stacklevel=2
            )
            return Images(np.ascontiguousarray(images.pixels[:]), images.labels)
        del images, labels
        found = _found(stem)
    assert found is not None
    return found


def joined(parts: Iterable[Images]) -> Images:
    """One after the other; all with labels, or none."""
    pixels, labels = zip(*((part.pixels, part.labels) for part in parts), strict=True)
    return Images(np.concatenate(pixels), None if labels[0] is None else np.concatenate(labels))


def folder() -> Path:
    """Beside the data's default place: $XDG_CACHE_HOME/drawnet/decoded or ~/.cache/drawnet/…"""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "drawnet" / "decoded"


def _key(sources: Sequence[Path], settings: tuple[str | int, ...]) -> str:
    identity: list[Any] = [_VERSION, *settings]
    for path in sources:
        with reading(path, "file"):
            now = path.stat()
        identity.append((str(path.resolve()), now.st_size, now.st_mtime_ns))
    return hashlib.sha256(repr(identity).encode()).hexdigest()[:24]


def _pixels(stem: Path) -> Path:
    return stem.with_name(stem.name + ".npy")


def _labels(stem: Path) -> Path:
    return stem.with_name(stem.name + "-labels.npy")


def _found(stem: Path) -> Images | None:
    try:  # 'c': copy on write, so that torch may have the memory
        pixels = np.load(_pixels(stem), mmap_mode="c", allow_pickle=False)
        labels = np.load(_labels(stem), allow_pickle=False)
        return Images(np.asarray(pixels), labels if len(labels) else None)
    except (OSError, ValueError, EOFError):
        return None


def _write(path: Path, array: NDArray[Any]) -> None:
    """Whole or not at all: written beside its place, then moved there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        try:
            _save(cast(Any, part), array)
            part.close()
            Path(part.name).replace(path)
        except BaseException:
            part.close()
            Path(part.name).unlink(missing_ok=True)
            raise


def _save(file: Any, array: NDArray[Any]) -> None:
    """An .npy file in C order whatever the order in memory, 64 MiB at a time."""
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header)
    rows = max(1, (1 << 26) // max(1, array[:1].nbytes))
    for first in range(0, len(array), rows):
        file.write(np.ascontiguousarray(array[first : first + rows]).data)
    file.flush()
    os.fsync(file.fileno())
