"""Your own images: a folder of pictures, or an .npz, .npy, .mat, IDX or parquet file.

`drawnet.data.load("a/folder")` comes here. A picture's split is decided by its name alone, so
that adding pictures never moves another from one split to another.
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
    description="your own images, from a folder of pictures or an .npz, .npy, .mat, IDX or "
    "parquet file; train 80 %, valid 10 %, test 10 %, decided by a hash of each picture's name",
    licence="yours to know",
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
    """Images (C, H, W) of 256 levels; C is 1 if `grey` or the array has one channel, else 3.

    path          folder (searched downwards, hidden files left out) or file; None: data_dir/images
    size          side or (height, width) in pixels; None: 32 for pictures, an array's own
    fit           'crop' to cover, 'pad' with white, or 'stretch', see `_pictures.fitted`
    grey          ITU-R 601 luma
    skip_corrupt  leave out what cannot be read, with a warning, instead of stopping
    layout        of an array: 'nhw', 'nhwc', 'nchw', 'hwcn'; None: the only one its shape allows
    key           name of the array in an .npz or .mat or column of a parquet file; None: the only
    """
    path = Path(path).expanduser() if path is not None else data_dir / "images"
    _check(size, fit, layout)
    pictures = _from_folder(path) if path.is_dir() else from_file(path, layout, key)
    height_width = (size, size) if isinstance(size, int) else size or pictures.size or (32, 32)
    mode = "L" if grey or pictures.grey else "RGB"
    stack, kept = _stack(pictures, height_width, fit, mode, skip_corrupt)
    if len(kept) < 3:
        raise UserError(f"{path} has {len(kept)} usable images: train, valid and test need 3")
    splits = {
        split: Images(
            stack[members],
            None if pictures.labels is None else pictures.labels[kept[members]],
        )
        for split, members in divide([pictures.names[k] for k in kept]).items()
    }
    return INFO.dataset(256, splits, name=path.resolve().name, source=str(path))


def divide(names: list[str]) -> dict[str, list[int]]:
    """Which of `names` (their places) are train, valid and test; at least one each.

    A name's hash is a number in [0, 1): train below 0.8, valid below 0.9, test above. A split that
    stays empty gets, from one with two or more, the name whose hash is nearest to its own part
    (and keeps it until the split has a name of its own: sets of a few dozen only).
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
    """Sorted by relative name, in one Unicode form so that no file system changes a split."""
    found = {
        unicodedata.normalize("NFC", path.relative_to(folder).as_posix()): path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    }
    names = sorted(name for name in found if not any(p[0] == "." for p in name.split("/")))
    if not names:
        raise UserError(f"{folder} has no pictures: {' '.join(SUFFIXES)} are what is looked for")
    return Pictures(names, lambda k: read(found[names[k]], str(found[names[k]])))


def _stack(
    pictures: Pictures, size: tuple[int, int], fit: Fit, mode: str, skip_corrupt: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (K, C, H, W) of the K pictures that can be read, and their places among all."""
    pixels, kept, skipped = [], [], []
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
        kept.append(k)
    if skipped:
        warnings.warn(f"{len(skipped)} pictures left out; the first: {skipped[0]}", stacklevel=4)
    return np.array(pixels, np.uint8), np.array(kept, np.int64)
