"""Images in arrays: .npz, .npy, .mat and IDX files, and arrays in memory, converted to 8 bits."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drawnet.data.io.collection import (
    LABEL_WORDS,
    Labels,
    Own,
    Pictures,
    note,
    numbered,
    one,
    split_of,
)  # fmt: skip
from drawnet.data.io.files import read_idx, read_mat, read_npy, read_npz, reading
from drawnet.data.io.pictures import BRIGHT, Look, background_of, plain, white_of
from drawnet.data.io.tables import from_parquet
from drawnet.errors import UserError, check_source

LAYOUTS = {"nhw": 3, "nhwc": 4, "nchw": 4, "hwcn": 4}
KINDS = ".npz, .npy, .mat, IDX or parquet file"
OTHER = {
    b"\x89HDF": "is an HDF5 file (MATLAB 7.3 writes them): save its array with numpy.savez",
    b"\x80": "is a pickle, which may run a program and is not read: save arrays with numpy.savez",
}
"""What files of other kinds begin with, and what to do."""


def from_file(path: Path, own: Own) -> Pictures:
    """Open an .npz, .npy, .mat, IDX or parquet file, recognised by its first bytes."""
    with reading(path, "file"), check_source(path).open("rb") as file:
        head = file.read(6)
    if head[:4] == b"PAR1":
        return from_parquet({path.name: path}, path, own)
    if head == b"\x93NUMPY":
        return from_arrays({"": read_npy(path)}, path, own)
    if head[:2] == b"PK":
        return from_arrays(read_npz(path), path, own)
    if head == b"MATLAB":
        arrays = read_mat(path).items()
        return from_arrays({k: a for k, a in arrays if not a.dtype.hasobject}, path, own)
    if head[:2] in (b"\0\0", b"\x1f\x8b"):
        return from_arrays({"": read_idx(path)}, path, own)
    for start, what in OTHER.items():
        if head.startswith(start):
            raise UserError(f"{path} {what}")
    raise UserError(f"{path} is not an {KINDS}: give one of these, or a folder of images")


def from_idx(files: Mapping[str, Path], folder: Path, own: Own) -> Pictures:
    """Open the IDX files of a folder: names have 'images' or 'labels', and 'train', 'test' or 't10k'."""
    named = {PurePosixPath(name).name.removesuffix(".gz"): path for name, path in files.items()}
    images = [name for name in named if "image" in name.lower()]
    sets = sorted({_set(name) for name in images})
    chosen = one(own.key, sets, "set of IDX files", folder)
    arrays = {}
    for name, path in named.items():
        if _set(name) == chosen:
            role = "images" if "image" in name.lower() else "labels"
            arrays[f"{split_of(name)[0]}_{role}".strip("_")] = read_idx(path)
    return from_arrays(arrays, folder, own._replace(key=None))


def _set(name: str) -> str:
    """Return what names of one set's files have in common: 'emnist-letters'."""
    words = name.lower().replace("-idx3-ubyte", "").replace("-idx1-ubyte", "").split("-")
    return "-".join(w for w in words if not split_of(w)[0] and w not in ("images", "labels"))


def from_arrays(arrays: Mapping[str, NDArray[Any]], path: Path, own: Own) -> Pictures:
    """Open the array of images, or one for each split (x_train, train_images), and their labels."""
    images = {k: a for k, a in arrays.items() if a.dtype.kind in "uifb" and a.ndim in (3, 4)}
    bytes_ = {k: a for k, a in images.items() if a.dtype == np.uint8}
    chosen = _by_split(own.key, bytes_ or images, path) if arrays.keys() != {""} else {"": ""}
    white = common_white({key: arrays[key] for key in chosen.values()}, str(path))
    parts = [from_array(arrays[key], path, own, white) for key in chosen.values()]
    labels = _labels(arrays, chosen, [len(part.names) for part in parts], path, own.labels)
    if len(parts) == 1:
        return replace(parts[0], labels=labels)
    if len({(part.size, part.grey) for part in parts}) > 1:
        sizes = ", ".join(f"{key} {arrays[key].shape}" for key in chosen.values())
        raise UserError(f"{path}: the splits have images of several sizes or channels: {sizes}")
    starts = np.cumsum([0, *(len(part.names) for part in parts)])

    def opened(k: int) -> Image.Image:
        part = int(np.searchsorted(starts, k, "right")) - 1
        return parts[part].opened(k - int(starts[part]))

    splits = [s for s, part in zip(chosen, parts, strict=True) for _ in part.names]
    names = [f"{s}/{n}" for s, part in zip(chosen, parts, strict=True) for n in part.names]
    return Pictures(names, opened, parts[0].size, parts[0].grey, labels, splits)


def from_array(pixels: NDArray[Any], path: Path, own: Own, white: float | None = None) -> Pictures:
    """Open an array of N images in a layout, or in the one layout that its shape allows."""
    pixels = arranged(pixels, own.layout, str(path))
    white = common_white({"": pixels}, str(path)) if white is None else white
    mono, look = pixels.shape[3] == 1, Look(background=_background(pixels, white, own, path))

    def opened(k: int) -> Image.Image:
        image = to_uint8(pixels[k], white)
        return plain(Image.fromarray(image[:, :, 0] if mono else image), look)

    names = [str(k) for k in range(len(pixels))]
    return Pictures(names, opened, (pixels.shape[1], pixels.shape[2]), mono)


def arranged(pixels: NDArray[Any], layout: str | None, where: str) -> NDArray[Any]:
    """Return a view (N, H, W, C) of images in `layout`, or in the one that their shape allows."""
    layout = layout or _layout(pixels.shape, where)
    if LAYOUTS.get(layout) != pixels.ndim:
        raise UserError(f"{where}: shape {pixels.shape} has no layout {layout!r}: {_CHOICE}")
    if layout == "nhw":
        pixels = pixels[..., None]
    if layout == "nchw":
        pixels = pixels.transpose(0, 2, 3, 1)
    if layout == "hwcn":
        pixels = pixels.transpose(3, 0, 1, 2)
    if pixels.shape[3] not in (1, 3, 4) or 0 in pixels.shape:
        raise UserError(
            f"{where}: as {layout} its images are {pixels.shape[1:]} (H, W, C), and 1, 3 or 4 "
            "channels are possible"
        )
    return pixels


_CHOICE = "choose layout='nhw', 'nhwc', 'nchw' or 'hwcn'"


def _layout(shape: tuple[int, ...], where: str) -> str:
    """Infer nhw from three axes; from four, the layout in which alone C is 1, 3 or 4."""
    if len(shape) == 3 and shape[2] > 4:
        return "nhw"
    if len(shape) == 4:
        channels = {"nchw": shape[1], "hwcn": shape[2], "nhwc": shape[3]}
        if len(able := [layout for layout, size in channels.items() if size in (1, 3, 4)]) == 1:
            return able[0]
    raise UserError(f"{where}: the axes of {shape} are ambiguous: {_CHOICE}")


def common_white(arrays: Mapping[str, NDArray[Any]], where: str) -> float:
    """Return the value that is white in all arrays, by the range of their values, and say it.

    Bytes: 255, or 1 where nothing is higher; floats: 1, where nothing is higher; otherwise see
    `pictures.white_of`.  UserError for types, negative values and values that are not numbers.
    """
    ends = [_ends(array, f"{where}: {key!r}" if key else where) for key, array in arrays.items()]
    whole = all(array.dtype.kind in "iu" for array in arrays.values())
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    if low < 0:
        raise UserError(f"{where}: values from {low:g} to {high:g}: scale them to 0..1 or 0..255")
    white = 1.0 if 0 < high <= 1 else white_of(high, whole or not high)
    if white == np.inf:
        raise UserError(f"{where}: values up to {high:g} are no pixels: scale them to 0..255")
    if whole and white != 255:
        note(f"{where}: values go up to {high:g}; {white:g} is white")
    return white


def to_uint8(values: NDArray[Any], white: float) -> NDArray[np.uint8]:
    """Convert values from 0 to `white` to bytes from 0 to 255, rounded."""
    if values.dtype == np.uint8 and white == 255:
        return values
    return np.rint(values * (255 / white)).astype(np.uint8)


def _ends(array: NDArray[Any], where: str) -> tuple[float, float]:
    """Return the lowest and the highest value, a few megabytes at a time."""
    if not array.ndim:
        raise UserError(f"{where} is a single number, and no array of images")
    if array.dtype.kind not in "uifb":
        raise UserError(f"{where} is {array.dtype}: pixels are integers from 0 or floats in [0, 1]")
    ends = [0.0, 0.0]
    rows = max(1, 2**24 // max(1, array[:1].nbytes))
    for first in range(0, len(array) if array.size else 0, rows):
        part = array[first : first + rows]
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            bad = first + int(np.argwhere(~np.isfinite(part))[0][0])
            raise UserError(f"{where} has values that are not finite, the first in row {bad}")
        ends = [min(ends[0], float(part.min())), max(ends[1], float(part.max()))]
    return ends[0], ends[1]


def _background(pixels: NDArray[Any], white: float, own: Own, path: Path) -> int | None:
    """Choose what stands behind images (N, H, W, 4), and say it if it is black."""
    if pixels.shape[3] != 4:
        return None
    if own.background != "auto":
        return {"white": 255, "black": 0}[own.background]
    some = to_uint8(pixels[:: max(1, len(pixels) // 256)], white)
    bright = background_of(some[..., :3].mean(-1), some[..., 3]) > 255 * BRIGHT
    if bright and some[..., 3].min() < 255:
        note(f"{path}: transparent pictures, whose shapes are bright, stand on black")
    return 0 if bright else 255


def _by_split(key: str | None, images: Iterable[str], path: Path) -> dict[str, str]:
    """Choose the array of images of each split, or one for all ('')."""
    able = [name for name in images if key is None or key in (name, split_of(name)[1])]
    divided: dict[str, list[str]] = {}
    for name in able:
        divided.setdefault(split_of(name)[0], []).append(name)
    several = key not in able and "train" in divided and len(able) > 1 and "" not in divided
    if several and all(len(found) == 1 for found in divided.values()):
        return {split: found[0] for split, found in divided.items()}
    return {"": one(key, list(images), "array of images", path)}


def _labels(
    arrays: Mapping[str, NDArray[Any]],
    chosen: Mapping[str, str],
    counts: list[int],
    path: Path,
    key: str | None,
) -> Labels | None:
    """Find the labels of each split under one name, by `key` or as people call them."""
    words = LABEL_WORDS if key is None else (key.lower(), split_of(key)[1])
    values: list[Any] = []
    found = []
    for (split, images), count in zip(chosen.items(), counts, strict=True):
        own = split or split_of(images)[0]  # those of the one array that was chosen
        able = (
            {
                rest.lower(): a
                for k, a in arrays.items()
                for s, rest in [split_of(k)]
                if s in (own, "")
            }
            if own
            else {k.lower(): a for k, a in arrays.items()}
        )
        name = next((w for w in words if w in able and _fits(able[w], count)), None)
        found += [name] if name else []
        values += able[name].reshape(-1).tolist() if name else [None] * count
    if key not in (None, "none") and not found:
        raise UserError(f"{path}: no labels {key!r}, one for each image")
    return numbered(values, f"{path}, image") if found and key != "none" else None


def _fits(array: NDArray[Any], count: int) -> bool:
    return array.dtype.kind in "iufbUSO" and array.shape in ((count,), (count, 1))
