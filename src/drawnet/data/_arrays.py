"""Images in one file: .npz, IDX, parquet. Each opens as a list of named pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drawnet.data._files import needing, read_idx, read_npz, reading
from drawnet.data._pictures import plain, read
from drawnet.errors import UserError

LAYOUTS = {"nhw": 3, "nhwc": 4, "nchw": 4}


@dataclass(frozen=True)
class Pictures:
    """Pictures that are opened one at a time.

    names   what splits are decided by: stays with a picture for ever
    opened  'L' or 'RGB' picture number k, or UserError
    size    (height, width) if all have one and it is to be kept, else None
    grey    whether all are known to be grey
    labels  int64, one each, or None
    """

    names: list[str]
    opened: Callable[[int], Image.Image]
    size: tuple[int, int] | None = None
    grey: bool = False
    labels: NDArray[np.int64] | None = None


def from_file(path: Path, layout: str | None, key: str | None) -> Pictures:
    """What is in an .npz, IDX or parquet file, told apart by its first bytes."""
    with reading(path, "file"), path.open("rb") as file:
        head = file.read(4)
    if head == b"PAR1":
        return _from_parquet(path, key)
    if head[:2] == b"PK":
        return _from_npz(path, layout, key)
    if head[:2] in (b"\0\0", b"\x1f\x8b"):
        return from_array(read_idx(path), path, layout)
    raise UserError(
        f"{path} is no .npz, IDX or parquet file: give one of these, or a folder of pictures"
    )


def from_array(
    pixels: NDArray[np.uint8],
    path: Path,
    layout: str | None = None,
    labels: NDArray[np.int64] | None = None,
) -> Pictures:
    """An array of N images in `layout`, or in the one layout that its shape allows."""
    layout = layout or _layout(pixels.shape, path)
    if LAYOUTS.get(layout) != pixels.ndim:
        raise UserError(f"{path}: shape {pixels.shape} has no layout {layout!r}: {_CHOICE}")
    if layout == "nhw":
        pixels = pixels[..., None]
    if layout == "nchw":
        pixels = pixels.transpose(0, 2, 3, 1)
    if pixels.shape[3] not in (1, 3, 4) or 0 in pixels.shape:
        raise UserError(
            f"{path}: as {layout} its images are {pixels.shape[1:]} (H, W, C), and 1, 3 or 4 "
            "channels are what an image can have"
        )
    mono = pixels.shape[3] == 1
    return Pictures(
        names=[str(k) for k in range(len(pixels))],
        opened=lambda k: plain(Image.fromarray(pixels[k, :, :, 0] if mono else pixels[k])),
        size=(pixels.shape[1], pixels.shape[2]),
        grey=mono,
        labels=labels,
    )


_CHOICE = "layout='nhw', 'nhwc' or 'nchw' decides"


def _layout(shape: tuple[int, ...], path: Path) -> str:
    """nhw: three axes; nhwc and nchw: four, of which one of the two places for C is 1, 3 or 4."""
    if len(shape) == 3 and shape[2] > 4:
        return "nhw"
    first, last = len(shape) == 4 and shape[1] in (1, 3, 4), shape[-1] in (1, 3, 4)
    if len(shape) == 4 and first != last:
        return "nchw" if first else "nhwc"
    raise UserError(f"{path}: it is not clear which axes of {shape} are which: {_CHOICE}")


def _from_npz(path: Path, layout: str | None, key: str | None) -> Pictures:
    arrays = read_npz(path)
    images = {k: a for k, a in arrays.items() if a.dtype == np.uint8 and a.ndim in (3, 4)}
    key = _one(key, list(images), "uint8 array of images", path)
    return from_array(images[key], path, layout, _labels(arrays.get("labels"), images[key]))


def _labels(labels: NDArray[Any] | None, images: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    fits = labels is not None and labels.shape == images.shape[:1] and labels.dtype.kind in "iu"
    return labels.astype(np.int64) if fits and labels is not None else None


def _from_parquet(path: Path, key: str | None) -> Pictures:
    """A column of encoded pictures, bytes or {bytes, path}; `label` if it is a whole number."""
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
    """Nothing at all reads as a picture of no bytes, which is refused as corrupt."""
    return (cell.get("bytes") if isinstance(cell, dict) else cell) or b""


def _one(key: str | None, able: list[str], kind: str, path: Path) -> str:
    if key in able:
        return key
    if key is None and len(able) == 1:
        return able[0]
    has = f"it has {', '.join(able)}: key=... decides" if able else "it has none"
    raise UserError(f"{path}: no {kind} {key!r}, {has}" if key else f"{path}: which {kind}? {has}")
