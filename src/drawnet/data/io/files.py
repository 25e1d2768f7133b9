"""Find and read the container formats of image data; every error is one UserError."""

import contextlib
import gzip
import hashlib
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from drawnet.data import Images
from drawnet.errors import UserError, kind_of


def find_file(data_dir: Path, name: str, *files: str) -> Path | None:
    """Return the first of `files` that is in data_dir/name or in data_dir; None if none is."""
    paths = (folder / file for file in files for folder in (data_dir / name, data_dir))
    return next((path for path in paths if kind_of(path) == "file"), None)


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


def afford(size: int, where: object) -> None:
    """Raise UserError if so many bytes do not fit into half of this machine's memory."""
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows cannot say
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if size > memory // 2:
            raise UserError(
                f"{where} takes {size / 1e9:,.1f} GB of memory, and this machine has "
                f"{memory / 1e9:,.1f}: use fewer or smaller images"
            )


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read every array of an .npz file but those of Python objects, which are pickles."""
    arrays: dict[str, NDArray[Any]] = {}
    with reading(path, ".npz file"), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(m.filename.endswith("data.pkl") for m in members):
            raise UserError(
                f"{path} was written by torch.save, as a pickle, which may run a program: save its "
                "tensors with numpy.savez"
            )
        if not any(m.filename.endswith(".npy") for m in members):
            raise UserError(f"{path} is a zip archive without arrays: unpack it, name the folder")
        afford(sum(m.file_size for m in members), path)
        for member in members:
            if member.filename.endswith(".npy"):
                with archive.open(member) as file:
                    array = _read_array(file, member.file_size)
                if array is not None:
                    arrays[member.filename.removesuffix(".npy")] = array
    if not arrays:
        raise UserError(f"{path} has nothing but Python objects (pickles): save arrays of numbers")
    return arrays


def _read_array(file: IO[bytes], size: int) -> NDArray[Any] | None:
    """Read an array of a stream of `size` bytes; None if it is of Python objects.

    ValueError if its header promises another size: numpy would make room for all of it first.
    """
    shape, fortran, dtype = _array_header(file)
    if dtype.hasobject:
        return None
    start, count = file.tell(), math.prod(shape)
    if any(n < 0 for n in shape) or start + count * dtype.itemsize != size:
        raise ValueError(f"{size} bytes, but its header promises {dtype} {shape}")
    flat = np.frombuffer(bytearray(file.read()), dtype, count)  # writable
    return flat.reshape(shape[::-1]).transpose() if fortran else flat.reshape(shape)


def _array_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, whether in Fortran's order, and type of an .npy stream."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version} of the .npy format")


def read_mat(path: Path, *keys: str) -> dict[str, NDArray[Any]]:
    """Read the arrays of a MATLAB file (version 5), or those of `keys` that it has."""
    with needing("scipy", path, "a MATLAB file"):
        from scipy.io import loadmat, whosmat
    with reading(path, "MATLAB file"):
        with path.open("rb") as file:
            if file.read(10) == b"MATLAB 7.3":
                raise UserError(f"{path} is a MATLAB file of version 7.3: save it with -v7")
        afford(sum(8 * math.prod(shape) for _, shape, _ in whosmat(path)), path)
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


def read_npy(path: Path) -> NDArray[Any]:
    """Memory-map the array of an .npy file; Python objects, which are pickles, are refused."""
    with reading(path, ".npy file"):
        with path.open("rb") as file:
            if _array_header(file)[2].hasobject:
                raise UserError(f"{path} holds Python objects (a pickle): save an array of numbers")
        return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))


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
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        if zipped:
            with gzip.open(path) as unpacked:
                raw = unpacked.read(4 + 4 * 255)
                afford(_promised(raw), path)
                raw += unpacked.read(
                    max(0, _promised(raw) - len(raw)) + 1
                )  # a byte too many, if any
        else:
            afford(path.stat().st_size, path)
            raw = path.read_bytes()
    if raw[:3] != b"\0\0\x08" or len(raw) < 4:
        raise UserError(f"{path} is not an IDX file of bytes: it starts with {raw[:4].hex(' ')!r}")
    start, expected = 4 + 4 * raw[3], _promised(raw)
    shape = [int.from_bytes(raw[k : k + 4], "big") for k in range(4, start, 4)]
    if len(raw) != expected:
        raise UserError(
            f"{path} has {len(raw)} bytes, but its header promises {expected}: get a new copy"
        )
    return np.frombuffer(bytearray(raw), np.uint8, offset=start).reshape(shape)  # writable


def _promised(raw: bytes) -> int:
    """Return the length that the header of an IDX file promises, header included."""
    start = 4 + 4 * raw[3] if raw[:3] == b"\0\0\x08" and len(raw) > 3 else 0
    axes = [int.from_bytes(raw[k : k + 4], "big") for k in range(4, start, 4)]
    return start + math.prod(axes) if start else 0


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
