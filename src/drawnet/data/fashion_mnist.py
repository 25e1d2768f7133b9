"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): pieces of clothing in MNIST's format and file names."""

from pathlib import Path

import numpy as np

from drawnet.data import Dataset, File, Images, Info
from drawnet.data.io.files import find, read_labelled
from drawnet.errors import UserError

_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
_FILES = {  # sha256 and bytes
    "train-images-idx3-ubyte.gz": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        26_421_880,
    ),
    "train-labels-idx1-ubyte.gz": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        29_515,
    ),
    "t10k-images-idx3-ubyte.gz": (
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        4_422_102,
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        5_148,
    ),
}

INFO = Info(
    name="fashion_mnist",
    description="pieces of clothing of ten classes, grey 28x28; valid is the last 10,000 of the "
    "60,000 for training",
    licence="MIT",
    source="Xiao, Rasul, Vollgraf 2017, Fashion-MNIST: a novel image dataset for benchmarking "
    "machine learning algorithms; https://github.com/zalandoresearch/fashion-mnist",
    files=tuple(
        File(file, tuple(mirror + file for mirror in _MIRRORS), sha256, size)
        for file, (sha256, size) in _FILES.items()
    ),
)


def load(data_dir: Path) -> Dataset:
    """Read Fashion-MNIST: 50,000 / 10,000 / 10,000 images (1, 28, 28), 256 levels, labels 0..9.

    Its files have the names of MNIST's; they are recognised by 6,000 and 1,000 images of each class,
    which MNIST does not have.
    """
    learn, test = (_read(data_dir, *part) for part in (("train", 60_000), ("t10k", 10_000)))
    splits = {"train": learn[:50_000], "valid": learn[50_000:], "test": test}
    return INFO.dataset(256, splits)


def _read(data_dir: Path, prefix: str, count: int) -> Images:
    files = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    paths = [find(data_dir, INFO.name, f"{file}.gz", file) for file in files]
    images = read_labelled(*paths, count=count)
    assert images.labels is not None
    if (np.bincount(images.labels, minlength=10) != count // 10).any():
        raise UserError(
            f"{paths[1]} has not {count // 10} of each class, so it is not Fashion-MNIST's "
            f"(MNIST's?): put Fashion-MNIST's in {data_dir / INFO.name}"
        )
    return images
