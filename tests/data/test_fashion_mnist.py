"""Fashion-MNIST's reader; that of the pair of files is tested with MNIST."""

import gzip

import numpy as np
import pytest

from drawnet.data import load
from drawnet.errors import UserError


def write(folder, prefix, labels):
    """Blank images, which gzip to nothing, each with its number in two pixels."""
    folder.mkdir(exist_ok=True)
    pixels = np.zeros((len(labels), 28, 28), np.uint8)
    pixels[:, 0, 0], pixels[:, 27, 1] = np.divmod(np.arange(len(labels)), 256)
    for name, array in (("images-idx3", pixels), ("labels-idx1", labels.astype(np.uint8))):
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        packed = gzip.compress(head + array.tobytes(), 1)
        (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(packed)


def test_official_files(tmp_path):
    rng = np.random.default_rng(0)
    labels = {p: rng.permutation(n) % 10 for p, n in (("train", 60_000), ("t10k", 10_000))}
    for prefix, own in labels.items():
        write(tmp_path, prefix, own)
    data = load("fashion_mnist", tmp_path)
    assert [len(images) for images in data.splits.values()] == [50_000, 10_000, 10_000]
    train, valid, test = data.splits.values()
    assert (np.concatenate([train.labels, valid.labels]) == labels["train"]).all()
    numbers = valid.pixels[:, 0, 0, 0].astype(int) * 256 + valid.pixels[:, 0, 27, 1]
    assert (numbers == np.arange(50_000, 60_000)).all() and (test.labels == labels["t10k"]).all()

    write(tmp_path / "fashion_mnist", "train", rng.integers(0, 10, 60_000))
    with pytest.raises(
        UserError, match=r"has not 6000 of each class, .*MNIST's\?\): put Fashion-MNIST's in"
    ):
        load("fashion_mnist", tmp_path)


def test_mnist_is_not_taken_for_it(real_data, tmp_path):
    for path in (real_data / "mnist").iterdir():
        (tmp_path / path.name).symlink_to(path)
    with pytest.raises(UserError, match="not Fashion-MNIST's"):
        load("fashion_mnist", tmp_path)
