"""Images in one file: .npz, .npy, .mat, IDX, parquet.  Each opens as a list of named pictures."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drawnet.data.io.files import needing, read_idx, read_mat, read_npy, read_npz, reading
from drawnet.data.io.pictures import plain, read
from drawnet.errors import UserError

LAYOUTS = {"nhw": 3, "nhwc": 4, "nchw": 4, "hwcn": 4}
KINDS = ".npz, .npy, .mat, IDX or parquet file"


@dataclass(frozen=True)
class Pictures:
    """Pictures that are opened one at a time.

    names   decide the splits: a picture's name never changes
    opened  'L' or 'RGB' picture k, or UserError
    size    (height, width) if all have the same and it is to be preserved, else None
    grey    whether all are known to be grey
    labels  int64, one each, or None
    """

    names: list[str]
    opened: Callable[[int], Image.Image]
    size: tuple[int, int] | None = None
    grey: bool = False
    labels: NDArray[np.int64] | None = None


def from_file(path: Path, layout: str | None, key: str | None) -> Pictures:
    """Open an .npz, .npy, .mat, IDX or parquet file, recognised by its first bytes."""
    with reading(path, "file"), path.open("rb") as file:
        head = file.read(6)
    if head[:4] == b"PAR1":
        return _from_parquet(path, key)
    if head == b"\x93NUMPY":
        return from_array(read_npy(path), path, layout)
    if head[:2] == b"PK":
        return _from_arrays(read_npz(path), path, layout, key)
    if head == b"MATLAB":
        return _from_arrays(read_mat(path), path, layout, key)
    if head[:2] in (b"\0\0", b"\x1f\x8b"):
        return from_array(read_idx(path), path, layout)
    raise UserError(f"{path} is not an {KINDS}: give one of these, or a folder of images")


def from_array(
    pixels: NDArray[np.uint8],
    path: Path,
    layout: str | None = None,
) -> Pictures:
    """Open an array of N images in `layout`, or in the one layout that its shape allows."""
    layout = layout or _layout(pixels.shape, path)
    if LAYOUTS.get(layout) != pixels.ndim:
        raise UserError(f"{path}: shape {pixels.shape} has no layout {layout!r}: {_CHOICE}")
    if layout == "nhw":
        pixels = pixels[..., None]
    if layout == "nchw":
        pixels = pixels.transpose(0, 2, 3, 1)
    if layout == "hwcn":
        pixels = pixels.transpose(3, 0, 1, 2)
    if pixels.shape[3] not in (1, 3, 4) or 0 in pixels.shape:
        raise UserError(
            f"{path}: as {layout} its images are {pixels.shape[1:]} (H, W, C), and 1, 3 or 4 "
            "channels are possible"
        )
    mono = pixels.shape[3] == 1
    return Pictures(
        names=[str(k) for k in range(len(pixels))],
        opened=lambda k: plain(Image.fromarray(pixels[k, :, :, 0] if mono else pixels[k])),
        size=(pixels.shape[1], pixels.shape[2]),
        grey=mono,
    )


_CHOICE = "choose layout='nhw', 'nhwc', 'nchw' or 'hwcn'"


def _layout(shape: tuple[int, ...], path: Path) -> str:
    """Infer nhw from three axes; from four, the layout in which alone C is 1, 3 or 4."""
    if len(shape) == 3 and shape[2] > 4:
        return "nhw"
    if len(shape) == 4:
        channels = {"nchw": shape[1], "hwcn": shape[2], "nhwc": shape[3]}
        if len(able := [layout for layout, size in channels.items() if size in (1, 3, 4)]) == 1:
            return able[0]
    raise UserError(f"{path}: the axes of {shape} are ambiguous: {_CHOICE}")


def _from_arrays(
    arrays: dict[str, NDArray[Any]], path: Path, layout: str | None, key: str | None
) -> Pictures:
    """Open the uint8 array of images, with integer `labels` or `y` if they are one each."""
    images = {k: a for k, a in arrays.items() if a.dtype == np.uint8 and a.ndim in (3, 4)}
    key = _one(key, list(images), "uint8 array of images", path)
    pictures = from_array(images[key], path, layout)
    labels = arrays.get("labels", arrays.get("y", np.empty(0)))
    fits = labels.dtype.kind in "iu" and labels.shape in ((n := len(pictures.names),), (n, 1))
    return replace(pictures, labels=labels.reshape(-1).astype(np.int64) if fits else None)


def _from_parquet(path: Path, key: str | None) -> Pictures:
    """Open a column of encoded pictures, bytes or {bytes, path}; with `label` if it is an integer."""
    with needing("pyarrow", path, "parquet"):
        import pyarrow.types as kinds
        from pyarrow import parquet
    with reading(path, "parquet file"):
        file = parquet.ParquetFile(path)
        schema = file.schema_arrow
        able = [f.name for f in schema if kinds.is_binary(f.type) or kinds.is_struct(f.type)]
        key = _one(key, able, "column of pictures", path)
        labelled = "label" in schema.names and kinds.is_integer(schema.field("label").type)
        columns = file.read([key, "label"] if labelled else [key]).to_pydict()
    labels = np.array(columns["label"], np.int64) if labelled else None
    cells = columns[key]
    return Pictures(
        names=[str(k) for k in range(len(cells))],
        opened=lambda k: read(_bytes(cells[k]), f"{path}, row {k}"),
        labels=labels,
    )


def _bytes(cell: Any) -> bytes:
    """Return a cell's bytes; none for any other cell, which is then refused as corrupt.

    Text is not bytes: Pillow would open it as a path on this machine.
    """
    found = cell.get("bytes") if isinstance(cell, dict) else cell
    return found if isinstance(found, bytes) else b""


def _one(key: str | None, able: list[str], kind: str, path: Path) -> str:
    if key in able:
        return key
    if key is None and len(able) == 1:
        return able[0]
    has = f"it has {', '.join(able)}: choose one by key=..." if able else "it has none"
    raise UserError(f"{path}: no {kind} {key!r}, {has}" if key else f"{path}: which {kind}? {has}")
