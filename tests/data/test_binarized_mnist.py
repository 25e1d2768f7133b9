"""Both forms of binarized MNIST. The text files are made at their real size, which is quick."""

import hashlib
import io
import zipfile

import numpy as np
import pytest

from drawnet.data import about, load
from drawnet.errors import UserError

COUNTS = {"train": 50_000, "valid": 10_000, "test": 10_000}


def packed_rows() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {split: rng.integers(0, 256, (n, 98), np.uint8) for split, n in COUNTS.items()}


def amat(rows: np.ndarray) -> np.ndarray:
    """Lines of 784 digits with blanks between, as in the published files."""
    bits = np.unpackbits(rows, axis=1)
    lines = np.full((len(bits), 2 * 784), ord(" "), np.uint8)
    lines[:, ::2] = bits + ord("0")
    lines[:, -1] = ord("\n")
    return lines


def test_facts(real_data):
    data = load("binarized_mnist", real_data)
    assert {split: len(images) for split, images in data.splits.items()} == COUNTS
    assert (data.shape, data.levels) == ((1, 28, 28), 2)
    means = [images.pixels.mean() for images in data.splits.values()]
    assert means == pytest.approx([0.13056, 0.13113, 0.13251], abs=6e-6)
    assert all(images.labels is None for images in data.splits.values())


def test_text_of_the_real_images_has_the_official_sum(real_data):
    """The valid split, written as text, is the published file: so rows and bits are in order."""
    pixels = load("binarized_mnist", real_data).splits["valid"].pixels
    text = amat(np.packbits(pixels.reshape(-1, 784), axis=1))
    file = about("binarized_mnist").files[1]
    assert file.name == "binarized_mnist_valid.amat" and text.size == file.size
    assert hashlib.sha256(text.tobytes()).hexdigest() == file.sha256


def test_text_and_packed_form_agree(tmp_path):
    rows = packed_rows()
    np.savez(tmp_path / "binarized_mnist.npz", **rows, shape=np.array([28, 28]))
    (tmp_path / "text" / "binarized_mnist").mkdir(parents=True)
    for split, own in rows.items():
        amat(own).tofile(tmp_path / "text" / "binarized_mnist" / f"binarized_mnist_{split}.amat")
    packed, text = load("binarized_mnist", tmp_path), load("binarized_mnist", tmp_path / "text")
    assert packed.checksum == text.checksum
    bits = np.unpackbits(rows["test"][7]).reshape(28, 28)
    assert (packed.splits["test"].pixels[7, 0] == bits).all()
    assert all(s.pixels.flags.c_contiguous for d in (packed, text) for s in d.splits.values())


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda t: t[:-1], "has 15679999 bytes, not the official 15680000"),
        (lambda t: np.where(np.arange(t.size) == 2000, ord("2"), t), "784 digits 0 or 1"),
        (lambda t: np.where(np.arange(t.size) == 2001, ord("\t"), t), "784 digits 0 or 1"),
        (lambda t: np.where(np.arange(t.size) == 1567, ord(" "), t), "784 digits 0 or 1"),
    ],
)
def test_damaged_text(tmp_path, damage, told):
    blank = {split: amat(np.zeros((n, 98), np.uint8)).ravel() for split, n in COUNTS.items()}
    blank["test"] = damage(blank["test"]).astype(np.uint8)
    for split, text in blank.items():
        text.tofile(tmp_path / f"binarized_mnist_{split}.amat")
    with pytest.raises(UserError, match=rf"binarized_mnist_test\.amat.*{told}"):
        load("binarized_mnist", tmp_path)


def save(path, **changed):
    rows = {split: np.zeros((n, 98), np.uint8) for split, n in COUNTS.items()} | changed
    np.savez_compressed(path, **{key: own for key, own in rows.items() if own is not None})


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"valid": None}, "has no array 'valid', only train, test"),
        ({"valid": np.zeros((10, 98), np.uint8)}, "10 valid images, not the official 10000"),
        ({"valid": np.zeros((10_000, 784), np.uint8)}, r"is uint8 \(10000, 784\), not uint8"),
        ({"valid": np.zeros((10_000, 98))}, r"is float64"),
        ({"valid": np.array([{}, []], object)}, "has no array .valid., only train, test"),
    ],
)
def test_wrong_arrays(tmp_path, changed, told):
    save(tmp_path / "binarized_mnist.npz", **changed)
    with pytest.raises(UserError, match=told):
        load("binarized_mnist", tmp_path)


def test_damaged_archives(tmp_path):
    path = tmp_path / "binarized_mnist.npz"
    save(path)
    whole = path.read_bytes()
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    flipped = bytearray(whole)
    with zipfile.ZipFile(path) as files:
        flipped[files.infolist()[0].header_offset + 200] ^= 0xFF
    for content in (whole[: len(whole) // 2], b"", b"hello", single.getvalue(), bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"binarized_mnist\.npz is not a complete \.npz file"):
            load("binarized_mnist", tmp_path)
