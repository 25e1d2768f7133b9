"""MNIST's reader, and the IDX format."""

import gzip

import numpy as np
import pytest

from drawnet.data import load
from drawnet.data.io.files import read_idx
from drawnet.errors import UserError


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    head = bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return head + array.tobytes()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """MNIST's four files at a thousandth of the size, and what is in them."""
    rng = np.random.default_rng(0)
    contents = {}
    for prefix, n in (("train", 60), ("t10k", 10)):
        contents[f"{prefix}-images-idx3-ubyte"] = rng.integers(0, 256, (n, 28, 28), np.uint8)
        contents[f"{prefix}-labels-idx1-ubyte"] = rng.integers(0, 10, n, np.uint8)
    for name, array in contents.items():
        (tmp_path / name).write_bytes(idx(array))
    return contents


def test_facts(real_data):
    data = load("mnist", real_data)
    train, valid, test = data.splits.values()
    assert [len(train), len(valid), len(test)] == [50_000, 10_000, 10_000]
    assert (data.shape, data.levels) == ((1, 28, 28), 256)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(np.concatenate([train.labels, valid.labels])).tolist() == counts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(test.labels).tolist() == counts
    learn = (5 * train.pixels.mean() + valid.pixels.mean()) / 6
    assert learn == pytest.approx(33.318, abs=5e-4)
    assert test.pixels.mean() == pytest.approx(33.791, abs=5e-4)


def test_too_few_images_are_refused(files, tmp_path):
    with pytest.raises(UserError, match="has 60 images, not the official 60000: get a new copy"):
        load("mnist", tmp_path)


def test_other_sizes_and_labels_are_refused(files, tmp_path):
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.full(60, 11, np.uint8)))
    with pytest.raises(UserError, match=r"others than 0\.\.9"):
        load("mnist", tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((60, 28, 27), np.uint8)))
    with pytest.raises(UserError, match=r"is \(60, 28, 27\), not"):
        load("mnist", tmp_path)


def test_full_files_gzipped_or_not_in_either_place(tmp_path):
    """60,000 black images gzip to nothing, so the real sizes can be written."""
    rng = np.random.default_rng(0)
    labels = {"train": rng.integers(0, 10, 60_000, np.uint8), "t10k": np.zeros(10_000, np.uint8)}
    (tmp_path / "mnist").mkdir()
    for prefix, own in labels.items():
        blank = np.zeros((len(own), 28, 28), np.uint8)
        blank[:, 0, 0] = np.arange(len(own)) % 251
        packed = gzip.compress(idx(blank), 1)
        (tmp_path / "mnist" / f"{prefix}-images-idx3-ubyte.gz").write_bytes(packed)
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(own))
    splits = load("mnist", tmp_path).splits
    train, valid, test = splits.values()
    assert (np.concatenate([train.labels, valid.labels]) == labels["train"]).all()
    assert (valid.pixels[:, 0, 0, 0] == np.arange(50_000, 60_000) % 251).all()
    assert len(test) == 10_000


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not an IDX file of bytes"),
        (b"\0\0\x08", "not an IDX file of bytes"),
        (b"PK\x03\x04....", "not an IDX file of bytes: it starts with '50 4b 03 04'"),
        (idx(np.zeros((2, 2), ">f4"), 0x0D), "not an IDX file of bytes"),
        (idx(np.zeros((5, 4), np.uint8))[:-1], "has 31 bytes, but its header promises 32"),
        (idx(np.zeros((5, 4), np.uint8)) + b"x", "has 33 bytes"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "header promises"),
        (
            gzip.compress(idx(np.zeros((5, 4), np.uint8)), mtime=0)[:-9],
            "is not a complete IDX file",
        ),
        (b"\x1f\x8b nonsense", "is not a complete IDX file"),
    ],
)
def test_damaged_files(tmp_path, content, told):
    path = tmp_path / "x-ubyte"
    path.write_bytes(content)
    with pytest.raises(UserError, match=told) as error:
        read_idx(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
