"""MNIST (LeCun, Cortes, Burges): the official IDX files, gzipped or not."""

from pathlib import Path

from drawnet.data import Dataset, File, Images, Info
from drawnet.data.io.files import find, read_labelled

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
_COUNTS = {"train": 60_000, "t10k": 10_000}
_VALID = 10_000

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
    """Read MNIST: 50,000 / 10,000 / 10,000 images (1, 28, 28), 256 levels, labels 0..9."""
    learn = _read(data_dir, "train")
    splits = {"train": learn[:-_VALID], "valid": learn[-_VALID:]}
    return INFO.dataset(256, splits | {"test": _read(data_dir, "t10k")})


def _read(data_dir: Path, prefix: str) -> Images:
    files = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    return read_labelled(
        *(find(data_dir, "mnist", f"{f}.gz", f) for f in files), count=_COUNTS[prefix]
    )
