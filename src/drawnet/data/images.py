"""User images: a folder of pictures, or an .npz, .npy, .mat, IDX or parquet file.

`drawnet.data.load("a/folder")` uses this.  Sub-folders train, val and test are splits; without them an
image's split depends on its name alone, so that adding images never moves another from one to another.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from drawnet.data import SPLITS, Dataset, Images, Info
from drawnet.data.io.arrays import arranged, from_file
from drawnet.data.io.arrays import from_arrays as arrays_of
from drawnet.data.io.collection import SPLIT_WORDS, Labels, Own, Pictures, note
from drawnet.data.io.files import afford
from drawnet.data.io.folders import from_folder
from drawnet.data.io.pictures import Background, Fit, fitted
from drawnet.data.options import checked
from drawnet.errors import UserError, expand

INFO = Info(
    name="images",
    description="your own images, from a folder of pictures or an .npz, .npy, .mat, IDX or parquet "
    "file; its own splits, or train 80 %, valid 10 %, test 10 %, by a hash of each image's name",
    licence="that of your images",
    source="you",
)
SIDE = 32
"""Side of pictures of several sizes, unless another is asked for."""
_ENDS = {"train": 0.8, "valid": 0.9, "test": 1.0}


def load(
    data_dir: Path,
    path: Path | str | None = None,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "crop",
    grey: bool | None = None,
    skip_corrupt: bool = False,
    layout: Literal["nhw", "nhwc", "nchw", "hwcn"] | None = None,
    key: str | None = None,
    labels: str | None = None,
    background: Background = "auto",
) -> Dataset:
    """Read images (C, H, W) of 256 levels, with labels if there are any.

    path          folder (with its sub-folders, hidden files left out) or file; None: data_dir/images
    size          side or (height, width) in pixels; None: that of all images, else 32
    fit           'crop' to cover, 'pad' with white, or 'stretch', see `io.pictures.fitted`
    grey          True: C is 1, by ITU-R 601 luma; False: 3; None: 1 if all images are grey, else 3
    skip_corrupt  leave out files that cannot be read, with a warning, instead of stopping
    layout        of an array: 'nhw', 'nhwc', 'nchw', 'hwcn'; None: the only one its shape allows
    key           name of the array in an .npz or .mat, column of a parquet file, or set of IDX files
    labels        name of their array or column; None: 'label', 'y' and their like; 'none': none
    background    behind transparent pictures: 'white', 'black', or 'auto', black for bright shapes

    Labels are class sub-folders or an array or column; words are numbered in their order, and name the
    classes.  What is not as usual is said in a warning of one line.
    """
    path = expand(path) if path is not None else data_dir / "images"
    if isinstance(size, int):
        size = (size, size)
    if size is not None and min(size) < 1:
        raise UserError(f"size is {size[0]}x{size[1]}: give a side or height and width, at least 1")
    own = Own(layout, key, labels, background)
    pictures = opened(path, own)
    known = {"name": path.resolve().name, "source": str(path)}
    return _dataset(pictures, path, size, fit, grey, skip_corrupt, known)


def common_size(path: str | Path, options: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return (height, width) of own images if all have the same; options as for `load`."""
    taken = {k: v for k, v in checked(load, dict(options), str(path)).items() if k in Own._fields}
    return opened(expand(path), Own(**taken)).size


def opened(path: Path, own: Own) -> Pictures:
    """Open a folder or file of one's own images."""
    return from_folder(path, own) if path.is_dir() else from_file(path, own)


def from_arrays(
    images: Any,
    labels: Any = None,
    *,
    shape: tuple[int, int, int] | None = None,
    layout: Literal["nhw", "nhwc", "nchw", "hwcn"] | None = None,
    classes: Sequence[str] = (),
    name: str = "arrays",
) -> Dataset:
    """Return your own arrays as a data set of 256 levels, for `train`, `View` and the rest.

    images   NumPy array, torch tensor or nested list (N, H, W), (N, C, H, W) or (N, H, W, C), or flat
             (N, C·H·W) with `shape`; or {'train': …, 'valid': …, 'test': …} of them.  Integers 0..255,
             floats in [0, 1] or booleans; C is 1, 3 or 4 (with opacity)
    labels   integers or words, (N,) or (N, 1), or a dict with the same keys; None: none
    shape    (C, H, W) of flat images, channel by channel
    layout   where the shape allows several: 'nhw', 'nhwc', 'nchw' or 'hwcn'
    classes  names of the labels 0, 1, …, if they are integers

    A split that is not there takes a tenth of train, by a hash of the image's index.  UserError, which
    says what is there and what to do, for anything else.
    """
    images = images if isinstance(images, Mapping) else {"": images}
    labels = labels if isinstance(labels, Mapping) else {} if labels is None else {"": labels}
    known = {split: SPLIT_WORDS.get(split, split) for split in (*images, *labels)}
    if unknown := set(known.values()) - {*SPLITS, ""}:
        raise UserError(f"{name}: no split is called {min(unknown)!r}: use train, valid and test")
    if images.keys() < labels.keys() or (len(images) > 1 and "train" not in images):
        raise UserError(f"{name}: images have the splits {[*images]}, labels {[*labels]}")
    arrays: dict[str, NDArray[Any]] = {}
    for split, values in images.items():
        own = f"{known[split]}_".removeprefix("_")
        arrays[f"{own}images"] = _pixels(values, shape, layout, f"{name}: {split or 'images'}")
        if split in labels:
            arrays[f"{own}labels"] = _flat_labels(labels[split], arrays[f"{own}images"], name)
    key = None if len(images) > 1 else next(iter(arrays))
    pictures = arrays_of(arrays, Path(name), Own("nhwc", key))
    if classes and pictures.labels:
        found = replace(pictures.labels, names=pictures.labels.names or tuple(classes))
        pictures = replace(pictures, labels=found)
    return _dataset(pictures, Path(name), None, "crop", None, False, {"name": name})


def _pixels(
    values: Any, shape: tuple[int, int, int] | None, layout: str | None, where: str
) -> NDArray[Any]:
    """Return images of any library as an array (N, H, W, C); UserError in one line."""
    array = _array(values, where)
    if array.dtype.kind not in "uifb":
        raise UserError(f"{where} is {array.dtype}: pixels are integers 0..255 or floats in [0, 1]")
    if array.ndim == 2:
        if shape is None:
            raise UserError(f"{where} is flat, {array.shape}: give shape=(C, H, W)")
        if array.shape[1] != np.prod(shape):
            raise UserError(f"{where} has {array.shape[1]} values an image, which is not {shape}")
        return array.reshape(-1, *shape).transpose(0, 2, 3, 1)
    if array.ndim not in (3, 4):
        raise UserError(f"{where} is {array.shape}: give (N, H, W), (N, C, H, W) or (N, H, W, C)")
    return arranged(array, layout, where)


def _flat_labels(values: Any, pixels: NDArray[Any], where: str) -> NDArray[Any]:
    array = _array(values, f"{where}: labels")
    if array.shape not in ((len(pixels),), (len(pixels), 1)):
        raise UserError(f"{where}: {len(pixels)} images, but labels {array.shape}: give one each")
    return array


def _array(values: Any, where: str) -> NDArray[Any]:
    """Return an array, tensor or list as an array."""
    if hasattr(values, "detach"):  # a torch tensor, on any device
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as why:
        raise UserError(f"{where} cannot be an array: {why}") from why


def _dataset(
    pictures: Pictures,
    path: Path,
    size: tuple[int, int] | None,
    fit: Fit,
    grey: bool | None,
    skip_corrupt: bool,
    known: dict[str, str],
) -> Dataset:
    """Decode, scale and divide pictures; arguments as for `load`."""
    height_width = size or pictures.size
    mode = "L" if grey or (pictures.grey and grey is None) else "RGB"
    stack, usable = _stack(pictures, height_width or (SIDE, SIDE), fit, mode, skip_corrupt, path)
    if height_width is None:
        note(f"{path}: pictures of several sizes are scaled to {SIDE}x{SIDE} (other: --data.size)")
    if len(usable) < 3:
        raise UserError(f"{path} has {len(usable)} usable images: train, valid and test need 3")
    if mode == "RGB" and grey is None and _all_grey(stack):
        stack = np.ascontiguousarray(stack[:, :1])
    names = [pictures.names[k] for k in usable]
    own_splits = [pictures.splits[k] for k in usable] if pictures.splits else []
    members = assigned(names, own_splits, path)
    found = pictures.labels and Labels(pictures.labels.numbers[usable], pictures.labels.names)
    splits = {
        split: Images(stack[chosen], _labels(found, chosen, names, path))
        for split, chosen in members.items()
    }
    return INFO.dataset(256, splits, classes=found.names if found else (), **known)


def assigned(names: list[str], splits: list[str], where: object) -> dict[str, list[int]]:
    """Return the indices of each split: its own, or, where there is none, taken by `divide`."""
    if not splits:
        return divide(names)
    members = {s: [k for k, own in enumerate(splits) if own == s] for s in SPLITS}
    if missing := [split for split in SPLITS if not members[split]]:
        pool = members["train"]
        note(f"{where} has no {' and '.join(missing)} images: a tenth of train each")
        if len(pool) <= len(missing):
            raise UserError(f"{where} has {len(pool)} images to train: too few to divide")
        parts = divide([names[k] for k in pool], ("train", *missing))
        members |= {split: [pool[k] for k in chosen] for split, chosen in parts.items()}
    return members


def divide(names: list[str], among: Collection[str] = SPLITS) -> dict[str, list[int]]:
    """Assign the indices of `names` to these splits, train and others; at least one each.

    A name's hash is a number in [0, 1): train below 0.8, valid below 0.9, test above; a split that is
    not asked for goes to train.  An empty split takes, from one with two or more, the name whose hash is
    nearest to its own interval, until it has a name of its own (in sets of a few dozen only).
    """
    raw = [hashlib.sha256(n.encode(errors="surrogateescape")).hexdigest()[:13] for n in names]
    hashes = [int(digits, 16) / 16**13 for digits in raw]
    owner = [next(split for split in SPLITS if h < _ENDS[split]) for h in hashes]
    owner = [split if split in among else "train" for split in owner]
    for split in among:
        if split not in owner:
            able = [k for k, own in enumerate(owner) if owner.count(own) > 1]
            owner[min(able, key=lambda k: abs(hashes[k] - _ENDS[split] + 0.05))] = split
    return {split: [k for k, own in enumerate(owner) if own == split] for split in among}


def _labels(
    labels: Labels | None, chosen: list[int], names: list[str], path: Path
) -> NDArray[np.int64] | None:
    """Return the labels of a split, None if it has none; UserError if only some have one."""
    numbers = labels.numbers[chosen] if labels else np.full(len(chosen), -1)
    without = np.flatnonzero(numbers < 0)
    if 0 < len(without) < len(numbers):
        raise UserError(
            f"{path}: no label: {len(without)} of {len(numbers)} images, the first "
            f"{names[chosen[without[0]]]}: add it, or read no labels (--data.options labels none)"
        )
    return None if len(without) else numbers


def _all_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether the three channels of all images (N, 3, H, W) are equal."""
    parts = (pixels[k : k + 1024] for k in range(0, len(pixels), 1024))
    return all((part == part[:, :1]).all() for part in parts)


def _stack(
    pictures: Pictures,
    size: tuple[int, int],
    fit: Fit,
    mode: str,
    skip_corrupt: bool,
    where: Path,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the pixels (K, C, H, W) of the K readable images, and their indices among all."""
    shape = (len(pictures.names), 1 if mode == "L" else 3, *size)
    afford(int(np.prod(shape, dtype=object)), f"{where}: images {shape}")
    stack, skipped = np.empty(shape, np.uint8), []
    usable: list[int] = []
    for k in range(len(pictures.names)):
        try:
            picture = pictures.opened(k)
        except UserError as error:
            if not skip_corrupt:
                raise
            skipped.append(str(error))
            continue
        image = np.asarray(fitted(picture.convert(mode), size, fit))
        stack[len(usable)] = image[None] if mode == "L" else image.transpose(2, 0, 1)
        usable.append(k)
    if skipped:
        note(f"{len(skipped)} images left out; the first: {skipped[0]}")
    return stack[: len(usable)], np.array(usable, np.int64)
