"""Two MNIST digits at random places of 60x60, as in DRAW §4.3: intensities are added and clipped.

Image n has digit n of MNIST's split, and others of it drawn at random.
"""

from functools import partial
from pathlib import Path

import numpy as np

from drawnet.data import Dataset, Info, mnist
from drawnet.data._scattered import SIDE, Array, Numbers, add, check, splits
from drawnet.nn.noise import integers_each

INFO = Info(
    name="two_digits",
    description="two digits at random places, grey 60x60, made from MNIST; in training, new places "
    "and pairs in every epoch",
    licence=mnist.INFO.licence,
    source="made as in Gregor, Danihelka, Graves, Rezende, Wierstra 2015, DRAW; "
    f"from {mnist.INFO.source}",
    origin="mnist",
)


def load(data_dir: Path, digits: int = 2, size: int = 60) -> Dataset:
    """Generate 50,000 / 10,000 / 10,000 images (1, size, size), 256 levels, no labels.

    digits  number of digits in an image; they may overlap, and be the same
    """
    check("two_digits", digits=(digits, 1, None), size=(size, SIDE, None))
    sources = mnist.load(data_dir).splits
    recipe = f"two_digits, {digits=}, {size=}"
    make = partial(scatter, count=digits, size=size)
    return INFO.dataset(256, splits(sources, size, make, recipe, labelled=False))


def scatter(split: str, digits: Array, numbers: Numbers, *, count: int, size: int) -> Array:
    """Generate the images at indices (B,) from a split's digits (N, 28, 28): (B, 1, size, size)."""
    n, b, place = len(digits), len(numbers), size - SIDE + 1
    drawn = integers_each(numbers, count * [n, place, place], "two_digits", split)
    drawn = drawn.reshape(b, count, 3)
    drawn[:, 0, 0] = numbers % n
    canvas = np.zeros((b, size, size), np.uint8)
    for k in range(count):
        add(canvas, digits[drawn[:, k, 0]], drawn[:, k, 1:])
    return canvas[:, None]
