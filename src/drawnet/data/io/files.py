"""Find and read the container formats of image data; every error is one UserError."""

import gzip
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from drawnet.data import Images
from drawnet.errors import UserError


def find_file(data_dir: Path, name: str, *files: str) -> Path | None:
    """Return the first of `files` that is in data_dir/name or in data_dir; None if none is."""
    paths = (folder / file for file in files for folder in (data_dir / name, data_dir))
    return next((path for path in paths if path.is_file()), None)


def find(data_dir: Path, name: str, *files: str, address: str | None = None) -> Path:
    """Find a file like `find_file`, or raise UserError; `address` if `fetch` does not download it."""
    if path := find_file(data_dir, name, *files):
        return path
    remedy = f"download it from {address}" if address else f"run `drawnet fetch {name}`"
    raise UserError(
        f"{name}: no {' or '.join(files)} in {data_dir} or {data_dir / name}: {remedy}, "
        "or set --data-dir or DRAWNET_DATA to the folder that has it"
    )


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn any exception of a decoder into a UserError of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # zip, gzip, numpy, scipy, arrow raise many types
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is not a complete {kind} ({why}): get a new copy") from error


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read every array of an .npz file; pickled objects are refused."""
    with reading(path, ".npz file"), path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with archive:
            return {key: archive[key] for key in archive.files}


def read_mat(path: Path, *keys: str) -> dict[str, NDArray[Any]]:
    """Read the arrays of a MATLAB file (version 5), or those of `keys` that it has."""
    with needing("scipy", path, "a MATLAB file"):
        from scipy.io import loadmat
    with reading(path, "MATLAB file"):
        with path.open("rb") as file:
            if file.read(10) == b"MATLAB 7.3":
                raise UserError(f"{path} is a MATLAB file of version 7.3: save it with -v7")
        found = loadmat(path, variable_names=keys or None)
    return {key: array for key, array in found.items() if not key.startswith("__")}


def read_parquet(path: Path, *columns: str) -> dict[str, list[Any]]:
    """Read these columns of a parquet file, each a list of Python values."""
    with needing("pyarrow", path, "parquet"):
        from pyarrow import parquet
    with reading(path, "parquet file"):
        file = parquet.ParquetFile(path)
        if missing := set(columns) - set(file.schema_arrow.names):
            raise UserError(f"{path} has no column {sorted(missing)[0]!r}: it is a different file")
        return cast(dict[str, list[Any]], file.read(list(columns)).to_pydict())


@contextmanager
def needing(package: str, path: Path, kind: str) -> Iterator[None]:
    """Raise UserError with the installation command if an optional package is missing."""
    try:
        yield
    except ImportError:
        raise UserError(
            f"{path} is {kind}, and {package} is not installed: `pip install 'drawnet[data]'` to read it"
        ) from None


def read_npy(path: Path) -> NDArray[np.uint8]:
    """Memory-map the array of an .npy file, which must be uint8; pickles are refused."""
    with reading(path, ".npy file"):
        found = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    if found.dtype != np.uint8:
        raise UserError(f"{path} is {found.dtype}, not uint8: save pixels as integers 0..255")
    return found


def array(arrays: dict[str, NDArray[Any]], key: str, shape: tuple[int, ...], path: Path) -> Any:
    """Return the array `key`, which must be uint8 of `shape`, where -1 stands for any length."""
    if key not in arrays:
        raise UserError(f"{path} has no array {key!r}, only {', '.join(arrays)}: get a new copy")
    found = arrays[key]
    fits = found.ndim == len(shape) and all(
        s in (-1, n) for s, n in zip(shape, found.shape, strict=True)
    )
    if not fits or found.dtype != np.uint8:
        raise UserError(
            f"{path}: {key!r} is {found.dtype} {found.shape}, not uint8 {shape}: get a new copy"
        )
    return found


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read the array of an IDX file (LeCun's format, MNIST page), gzipped or not.

    Two zero bytes, the type (8: uint8, the only one read), the number of axes; each axis as a
    big-endian uint32; then the bytes.
    """
    with reading(path, "IDX file"):
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    if raw[:3] != b"\0\0\x08" or len(raw) < 4:
        raise UserError(f"{path} is not an IDX file of bytes: it starts with {raw[:4].hex(' ')!r}")
    start = 4 + 4 * raw[3]
    shape = [int.from_bytes(raw[k : k + 4], "big") for k in range(4, start, 4)]
    expected = start + int(np.prod(shape, dtype=object))
    if len(raw) != expected:
        raise UserError(
            f"{path} has {len(raw)} bytes, but its header promises {expected}: get a new copy"
        )
    return np.frombuffer(bytearray(raw), np.uint8, offset=start).reshape(shape)  # writable


def read_labelled(images: Path, labels: Path, *, count: int) -> Images:
    """Read `count` grey images 28x28 and their classes 0..9 from MNIST's pair of IDX files."""
    pixels, raw = read_idx(images), read_idx(labels)
    if pixels.shape[1:] != (28, 28):
        raise UserError(f"{images} is {pixels.shape}, not (N, 28, 28): get a new copy")
    numbers = classes(raw, range(10), labels)
    counted(len(pixels), count, "images", images)
    counted(len(numbers), count, "labels", labels)
    return Images(pixels[:, None], numbers)


def counted(found: int, official: int, what: str, path: Path) -> None:
    """Raise UserError if a file does not hold the official number of items."""
    if found != official:
        raise UserError(f"{path} has {found} {what}, not the official {official}: get a new copy")


def classes(labels: Any, known: range, path: Path) -> NDArray[np.int64]:
    """Return labels (N,) or (N, 1) as int64 (N,); they must be integers in `known`."""
    numbers = np.asarray(labels)
    numbers = numbers[:, 0] if numbers.ndim == 2 and numbers.shape[1] == 1 else numbers
    fits = numbers.ndim == 1 and len(numbers) and numbers.dtype.kind in "iu"
    if not fits or numbers.min() < known[0] or numbers.max() > known[-1]:
        raise UserError(
            f"{path} has no labels, or others than {known[0]}..{known[-1]}: get a new copy"
        )
    return numbers.astype(np.int64)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
