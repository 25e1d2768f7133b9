"""MNIST (LeCun, Cortes, Burges): the official IDX files, gzipped or not."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drawnet.data import Dataset, File, Images, Info
from drawnet.data._files import counted, find, read_idx
from drawnet.errors import UserError

_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
_FILES = {  # sha256 and bytes
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        9_912_422,
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        28_881,
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        1_648_877,
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        4_542,
    ),
}

INFO = Info(
    name="mnist",
    description="handwritten digits, grey 28x28; valid is the last 10,000 of the 60,000 for training",
    licence="none stated; often given as CC BY-SA 3.0 (LeCun and Cortes)",
    source="LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to document "
    "recognition; http://yann.lecun.com/exdb/mnist/",
    files=tuple(
        File(file, tuple(mirror + file for mirror in _MIRRORS), sha256, size)
        for file, (sha256, size) in _FILES.items()
    ),
)


def load(data_dir: Path) -> Dataset:
    """MNIST: 50,000 / 10,000 / 10,000 images (1, 28, 28), 256 levels, labels 0..9."""
    pixels, labels = _read(data_dir, "train", 60_000)
    splits = {
        "train": Images(pixels[:50_000], labels[:50_000]),
        "valid": Images(pixels[50_000:], labels[50_000:]),
        "test": Images(*_read(data_dir, "t10k", 10_000)),
    }
    return INFO.dataset(256, splits)


def _read(data_dir: Path, prefix: str, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    pixels_path = _find(data_dir, f"{prefix}-images-idx3-ubyte")
    labels_path = _find(data_dir, f"{prefix}-labels-idx1-ubyte")
    pixels, labels = read_idx(pixels_path), read_idx(labels_path)
    if pixels.shape[1:] != (28, 28):
        raise UserError(f"{pixels_path} is {pixels.shape}, not (N, 28, 28): get it anew")
    if labels.ndim != 1 or labels.max(initial=0) > 9:
        raise UserError(f"{labels_path} is no list of digits 0..9: get it anew")
    counted(len(pixels), count, "images", pixels_path)
    counted(len(labels), count, "labels", labels_path)
    return pixels[:, None], labels.astype(np.int64)


def _find(data_dir: Path, file: str) -> Path:
    return find(data_dir, "mnist", f"{file}.gz", file)
