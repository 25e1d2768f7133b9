"""For the sets that are made from MNIST: small files of it, and a plain pasting of digits."""

import numpy as np

from drawnet.data import mnist

SIDE = 28


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_mnist(folder, monkeypatch, train, test, valid: int) -> None:
    """MNIST's files of these digits (n, 28, 28), the last `valid` of train held out; labels n % 10."""
    monkeypatch.setattr(mnist, "_COUNTS", {"train": len(train), "t10k": len(test)})
    monkeypatch.setattr(mnist, "_VALID", valid)
    for prefix, digits in (("train", train), ("t10k", test)):
        labels = (np.arange(len(digits)) % 10).astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(digits.astype(np.uint8)))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))


def digits(n: int, seed: int) -> np.ndarray:
    """Random strokes on black, all different, light up to every border: (n, 28, 28)."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((n, SIDE, SIDE)) < 0.3, rng.integers(1, 256, (n, SIDE, SIDE)), 0)


def paste(canvas: list, patch: np.ndarray, top: int, left: int) -> None:
    """Pixel by pixel, in Python's own whole numbers, clipped at once."""
    for y in range(len(patch)):
        for x in range(len(patch[0])):
            canvas[top + y][left + x] = min(255, canvas[top + y][left + x] + int(patch[y][x]))


def places(image: np.ndarray, digit: np.ndarray) -> list[tuple[int, int]]:
    """Every upper left corner at which an image (S, S) is everywhere at least as light as a digit."""
    cut = np.lib.stride_tricks.sliding_window_view(image, digit.shape)
    return [tuple(p) for p in np.argwhere((cut >= digit).all((2, 3))).tolist()]


def chi2(values: np.ndarray, n: int) -> float:
    """χ² of whole numbers 0 .. n-1 against the uniform, in standard deviations above its mean."""
    counts = np.bincount(values, minlength=n)
    assert len(counts) == n
    expected = len(values) / n
    return (((counts - expected) ** 2 / expected).sum() - (n - 1)) / np.sqrt(2 * (n - 1))
