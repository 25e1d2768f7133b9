"""SVHN (Netzer et al. 2011), cropped: single digits of house numbers, colour 32x32.

From the published MATLAB files, or from a parquet file with a part of the test digits.
"""

from pathlib import Path

import numpy as np

from drawnet.data import Dataset, File, Images, Info
from drawnet.data.io.cache import cached, joined
from drawnet.data.io.files import array, classes, counted, find, find_file, read_mat, read_parquet
from drawnet.data.io.pictures import stacked
from drawnet.errors import UserError

_BASE = "http://ufldl.stanford.edu/housenumbers/"
_COUNTS = {"train": 73_257, "test": 26_032, "extra": 531_131}
_VALID = 5_257
_EXTRA = "extra_32x32.mat"
_PART = "svhn_cropped_test_7136.parquet"
_PART_DIGITS = 7_136
_PART_SPLITS = {
    "train": slice(0, 6_000),
    "valid": slice(6_000, 6_500),
    "test": slice(6_500, 7_136),
}

INFO = Info(
    name="svhn",
    description="single digits of house numbers, colour 32x32 with their surroundings; valid is "
    "the last 5,257 of the 73,257 for training",
    licence="for non-commercial use only (Netzer et al. 2011)",
    source="Netzer, Wang, Coates, Bissacco, Wu, Ng 2011, Reading digits in natural images with "
    f"unsupervised feature learning; {_BASE}",
    files=(
        File(
            "train_32x32.mat",
            (f"{_BASE}train_32x32.mat",),
            "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
            182_040_794,
        ),
        File(
            "test_32x32.mat",
            (f"{_BASE}test_32x32.mat",),
            "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
            64_275_384,
        ),
    ),
)


def load(data_dir: Path, extra: bool = False) -> Dataset:
    """Read SVHN digits: 68,000 / 5,257 / 26,032 images (3, 32, 32), 256 levels, labels 0..9.

    Digits of one photograph are adjacent in the files, so splits are contiguous: no photograph but
    one is in two splits.

    extra  also train on the 531,131 easier digits of extra_32x32.mat (599,131 in all)

    If neither published file is there, a parquet file of 7,136 of the test digits is used, with
    columns `image`, `label` and `index`: 6,000 / 500 / 636 in their order; the name says so.
    """
    official = find_file(data_dir, "svhn", "train_32x32.mat", "test_32x32.mat")
    part = find_file(data_dir, "svhn", _PART)
    if part and not official:
        return _from_part(part, extra)
    train = find(data_dir, "svhn", "train_32x32.mat")
    test = find(data_dir, "svhn", "test_32x32.mat")
    learn = cached([train], lambda: _mat(train, "train"))
    end = len(learn) - _VALID
    splits = {"train": learn[:end], "valid": learn[end:]}
    splits["test"] = cached([test], lambda: _mat(test, "test"))
    if not extra:
        return INFO.dataset(256, splits)
    more = find(data_dir, "svhn", _EXTRA, address=f"{_BASE}{_EXTRA} (1.3 GB)")
    splits["train"] = cached([train, more], lambda: joined([learn[:end], _mat(more, "extra")]))
    part_name = "with the 531,131 extra digits for training"
    return INFO.dataset(256, splits, name=f"svhn, {part_name}")


# ---- the published files ------------------------------------------------------------------------


def _mat(path: Path, split: str) -> Images:
    """Read X uint8 (32, 32, 3, N): rows, columns, channels, digits; y (N, 1): 1..10, where 10 is a 0."""
    arrays = read_mat(path, "X", "y")
    pixels = array(arrays, "X", (32, 32, 3, -1), path)
    labels = classes(arrays.get("y", np.empty(0)), range(1, 11), path)
    counted(pixels.shape[3], _COUNTS[split], "digits", path)
    counted(len(labels), _COUNTS[split], "labels", path)
    return Images(pixels.transpose(3, 2, 0, 1), labels % 10)


# ---- the part -----------------------------------------------------------------------------------


def _from_part(path: Path, extra: bool) -> Dataset:
    if extra:
        raise UserError(f"svhn: {path.name} has no extra digits: omit the option")
    images = cached([path], lambda: _decoded(path))
    part_name = "7,136 digits of the test file, split 6,000/500/636"
    return INFO.dataset(
        256,
        {split: images[part] for split, part in _PART_SPLITS.items()},
        name=f"svhn, {part_name}",
        description="single digits of house numbers, colour 32x32 with their surroundings: a part, "
        f"{part_name}",
    )


def _decoded(path: Path) -> Images:
    columns = read_parquet(path, "image", "label", "index")
    index = np.array(columns["index"])
    counted(len(index), _PART_DIGITS, "digits", path)
    if (np.diff(index) <= 0).any() or index[0] < 0 or index[-1] >= _COUNTS["test"]:
        raise UserError(f"{path} is not in the order of test_32x32.mat: get a new copy")
    labels = classes(columns["label"], range(10), path)
    return Images(stacked(columns["image"], (3, 32, 32), path), labels)
