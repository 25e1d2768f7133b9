"""Decoded images in the user's cache folder, memory-mapped at the next start."""

import hashlib
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from drawnet.data import Images
from drawnet.data.io.files import reading
from drawnet.errors import UserError, cache_dir, check_source, write_atomically

_VERSION = 1  # of the decoding; a higher one invalidates the cache


def cached(
    sources: Sequence[Path], decode: Callable[[], Images], *settings: str | int, name: str = ""
) -> Images:
    """Return `decode()`, or its earlier result if `sources` have the same paths, sizes and times.

    settings  everything else that the result depends on; all of it, if there are no sources
    name      beginning of the file's name; default: the first source's

    The pixels are memory-mapped: processes share one copy, and writes stay private to the process.
    Files are complete or absent; what is not as it was written, by a checksum beside it, is decoded
    again. A cache folder that cannot be written causes a warning, and the decoded images are returned.
    """
    entry = f"{(name or sources[0].stem)[:32]}-{_key(sources, settings)}"
    if (found := _found(entry)) is None:
        images = decode()
        labels = np.empty(0, np.int64) if images.labels is None else images.labels
        try:
            stem = folder() / entry
            _write(_labels(stem), labels)
            _write(_pixels(stem), pixels := images.pixels[:])
            _write(_sums(stem), np.array([_sum(pixels), _sum(labels)]))  # last: completes the entry
        except UserError as error:
            warnings.warn(f"decoded images are not cached: {error}", stacklevel=2)
            return Images(np.ascontiguousarray(images.pixels[:]), images.labels)
        del images, labels, pixels
        found = _found(entry)
    assert found is not None
    return found


def joined(parts: Iterable[Images]) -> Images:
    """Concatenate images; all with labels, or none."""
    pixels, labels = zip(*((part.pixels, part.labels) for part in parts), strict=True)
    return Images(np.concatenate(pixels), None if labels[0] is None else np.concatenate(labels))


def folder() -> Path:
    """Return the cache folder, $XDG_CACHE_HOME/drawnet/decoded or ~/.cache/drawnet/decoded."""
    return cache_dir() / "decoded"


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


def _sums(stem: Path) -> Path:
    return stem.with_name(stem.name + "-sums.npy")


def _sum(array: NDArray[Any]) -> int:
    """Return the CRC-32 of an array's values in C order, a few images at a time."""
    found, rows = 0, max(1, (1 << 24) // max(1, array[:1].nbytes))
    for first in range(0, len(array), rows):
        found = zlib.crc32(np.ascontiguousarray(array[first : first + rows]).data, found)
    return found


def _found(entry: str) -> Images | None:
    try:  # 'c': copy on write, so that torch can share the memory
        paths = [check_source(of(folder() / entry)) for of in (_pixels, _labels, _sums)]
        pixels, labels, sums = (np.load(p, mmap_mode="c", allow_pickle=False) for p in paths)
        if sums.tolist() != [_sum(pixels), _sum(labels)] or labels.dtype != np.int64:
            return None
        return Images(np.asarray(pixels), np.array(labels) if len(labels) else None)
    except (UserError, OSError, ValueError, EOFError, TypeError):
        return None


def _write(path: Path, array: NDArray[Any]) -> None:
    def write(scratch: Path) -> None:
        with scratch.open("wb") as file:
            _save(file, array)

    write_atomically(path, write)


def _save(file: IO[bytes], array: NDArray[Any]) -> None:
    """Write an .npy file in C order whatever the order in memory, 64 MiB at a time."""
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header)
    rows = max(1, (1 << 26) // max(1, array[:1].nbytes))
    for first in range(0, len(array), rows):
        file.write(np.ascontiguousarray(array[first : first + rows]).data)
