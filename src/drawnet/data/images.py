"""User images: a folder of image files, or an .npz, .npy, .mat, IDX or parquet file.

`drawnet.data.load("a/folder")` uses this.  An image's split depends on its name alone, so that
adding images never moves another from one split to another.
"""

import hashlib
import unicodedata
import warnings
from pathlib import Path

import numpy as np

from drawnet.data import SPLITS, Dataset, Images, Info
from drawnet.data.io.arrays import LAYOUTS, Pictures, from_file
from drawnet.data.io.pictures import SUFFIXES, Fit, fitted, read
from drawnet.errors import UserError

INFO = Info(
    name="images",
    description="your own images, from a folder of image files or an .npz, .npy, .mat, IDX or "
    "parquet file; train 80 %, valid 10 %, test 10 %, assigned by a hash of each image's name",
    licence="that of your images",
    source="you",
)
_ENDS = {"train": 0.8, "valid": 0.9, "test": 1.0}


def load(
    data_dir: Path,
    path: Path | str | None = None,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "crop",
    grey: bool = False,
    skip_corrupt: bool = False,
    layout: str | None = None,
    key: str | None = None,
) -> Dataset:
    """Read images (C, H, W) of 256 levels; C is 1 if `grey` or the array has one channel, else 3.

    path          folder (searched recursively, hidden files left out) or file; None: data_dir/images
    size          side or (height, width) in pixels; None: 32 for image files, an array's own
    fit           'crop' to cover, 'pad' with white, or 'stretch', see `io.pictures.fitted`
    grey          ITU-R 601 luma
    skip_corrupt  leave out files that cannot be read, with a warning, instead of stopping
    layout        of an array: 'nhw', 'nhwc', 'nchw', 'hwcn'; None: the only one its shape allows
    key           name of the array in an .npz or .mat or column of a parquet file; None: the only one
    """
    path = Path(path).expanduser() if path is not None else data_dir / "images"
    _check(size, fit, layout)
    pictures = _from_folder(path) if path.is_dir() else from_file(path, layout, key)
    height_width = (size, size) if isinstance(size, int) else size or pictures.size or (32, 32)
    mode = "L" if grey or pictures.grey else "RGB"
    stack, usable = _stack(pictures, height_width, fit, mode, skip_corrupt)
    if len(usable) < 3:
        raise UserError(f"{path} has {len(usable)} usable images: train, valid and test need 3")
    splits = {
        split: Images(
            stack[members],
            None if pictures.labels is None else pictures.labels[usable[members]],
        )
        for split, members in divide([pictures.names[k] for k in usable]).items()
    }
    return INFO.dataset(256, splits, name=path.resolve().name, source=str(path))


def divide(names: list[str]) -> dict[str, list[int]]:
    """Assign the indices of `names` to train, valid and test; at least one each.

    A name's hash is a number in [0, 1): train below 0.8, valid below 0.9, test above. An empty
    split takes, from one with two or more, the name whose hash is nearest to its own interval, until it
    has a name of its own (in sets of a few dozen only).
    """
    hashes = [int(hashlib.sha256(n.encode()).hexdigest()[:13], 16) / 16**13 for n in names]
    owner = [next(split for split in SPLITS if h < _ENDS[split]) for h in hashes]
    for split in SPLITS:
        if split not in owner:
            able = [k for k, own in enumerate(owner) if owner.count(own) > 1]
            owner[min(able, key=lambda k: abs(hashes[k] - _ENDS[split] + 0.05))] = split
    return {split: [k for k, own in enumerate(owner) if own == split] for split in SPLITS}


def _check(size: int | tuple[int, int] | None, fit: str, layout: str | None) -> None:
    sides = size if isinstance(size, tuple) else (size, size)
    if size is not None and (len(sides) != 2 or any(side is None or side < 1 for side in sides)):
        raise UserError(f"size is {size}: give a side or (height, width), at least 1")
    if fit not in ("crop", "pad", "stretch"):
        raise UserError(f"fit is {fit!r}: choose 'crop', 'pad' or 'stretch'")
    if layout is not None and layout not in LAYOUTS:
        raise UserError(f"layout is {layout!r}: choose {', '.join(LAYOUTS)}")


def _from_folder(folder: Path) -> Pictures:
    """List a folder by relative name in one Unicode form, so that no file system changes a split."""
    found = {
        unicodedata.normalize("NFC", path.relative_to(folder).as_posix()): path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    }
    names = sorted(name for name in found if not any(p[0] == "." for p in name.split("/")))
    if not names:
        raise UserError(f"{folder} has no image files ({' '.join(SUFFIXES)})")
    return Pictures(names, lambda k: read(found[names[k]], str(found[names[k]])))


def _stack(
    pictures: Pictures, size: tuple[int, int], fit: Fit, mode: str, skip_corrupt: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels (K, C, H, W) of the K readable images, and their indices among all."""
    pixels, usable, skipped = [], [], []
    for k in range(len(pictures.names)):
        try:
            picture = pictures.opened(k)
        except UserError as error:
            if not skip_corrupt:
                raise
            skipped.append(str(error))
            continue
        image = np.asarray(fitted(picture.convert(mode), size, fit))
        pixels.append(image[None] if mode == "L" else image.transpose(2, 0, 1))
        usable.append(k)
    if skipped:
        warnings.warn(f"{len(skipped)} images left out; the first: {skipped[0]}", stacklevel=4)
    return np.array(pixels, np.uint8), np.array(usable, np.int64)
