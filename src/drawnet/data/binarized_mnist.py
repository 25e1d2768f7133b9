"""Binarized MNIST: the static 0/1 images on which DRAW (table 2) and others report likelihoods.

Salakhutdinov and Murray (2008) sampled each pixel once with its grey level as probability;
Larochelle published the result.  Images are not in MNIST's order, and there are no labels.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drawnet.data import Dataset, File, Images, Info
from drawnet.data.io.files import array, counted, find, find_file, read_npz, reading
from drawnet.errors import UserError

_BASE = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
_COUNTS = {"train": 50_000, "valid": 10_000, "test": 10_000}
_SUMS = {
    "train": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    "valid": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    "test": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
}
_LINE = 2 * 784  # "0 1 0 ... 1\n": a digit and a separator for each pixel

INFO = Info(
    name="binarized_mnist",
    description="handwritten digits, 0/1 28x28, binarized once and for all; official three splits",
    licence="none stated; derived from MNIST",
    source="Salakhutdinov and Murray 2008, On the quantitative analysis of deep belief networks; "
    f"files by Larochelle, {_BASE}",
    files=tuple(
        File(
            f"binarized_mnist_{split}.amat",
            (f"{_BASE}binarized_mnist_{split}.amat",),
            sha256,
            _COUNTS[split] * _LINE,
        )
        for split, sha256 in _SUMS.items()
    ),
)


def load(data_dir: Path) -> Dataset:
    """Read Binarized MNIST: 50,000 / 10,000 / 10,000 images (1, 28, 28), 2 levels, 1 is ink.

    From binarized_mnist.npz (each split `np.packbits` of 784 bits a row, 98 bytes), or from the
    published text files.
    """
    if packed := find_file(data_dir, "binarized_mnist", "binarized_mnist.npz"):
        bits = _read_packed(packed)
    else:
        bits = {split: _read_text(data_dir, split) for split in _COUNTS}
    splits = {split: Images(rows.reshape(-1, 1, 28, 28)) for split, rows in bits.items()}
    return INFO.dataset(2, splits)


def _read_packed(path: Path) -> dict[str, NDArray[np.uint8]]:
    arrays = read_npz(path)
    packed = {split: array(arrays, split, (-1, 98), path) for split in _COUNTS}
    for split, count in _COUNTS.items():
        counted(len(packed[split]), count, f"{split} images", path)
    return {split: np.unpackbits(rows.ravel()).reshape(-1, 784) for split, rows in packed.items()}


def _read_text(data_dir: Path, split: str) -> NDArray[np.uint8]:
    path = find(data_dir, "binarized_mnist", f"binarized_mnist_{split}.amat")
    official = _COUNTS[split] * _LINE
    with reading(path, ".amat file"):
        raw = np.fromfile(path, np.uint8)
    if len(raw) != official:
        raise UserError(f"{path} has {len(raw)} bytes, not the official {official}: get a new copy")
    lines = raw.reshape(-1, _LINE)
    digits, separators = lines[:, ::2] - ord("0"), lines[:, 1::2]
    if digits.max() > 1 or (separators[:, :-1] != 32).any() or (separators[:, -1] != 10).any():
        raise UserError(f"{path} has lines that are not 784 digits 0 or 1: get a new copy")
    return digits
