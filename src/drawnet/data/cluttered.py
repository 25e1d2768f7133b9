"""Cluttered MNIST (Mnih et al. 2014), as in DRAW §4.1: a digit at a random place among distractors.

On black, eight 8x8 pieces of other digits, cut at random, are added at random places, then the digit;
sums are clipped at 255.  Added, not the maximum of the two, as in the paper and in DeepMind's
published generator (mnist-cluttered).  Image n's digit is number n of MNIST's split.
"""

from functools import partial
from pathlib import Path

import numpy as np

from drawnet.data import Dataset, Info, _affine, mnist
from drawnet.data._scattered import SIDE, Array, Numbers, add, area, check, splits
from drawnet.nn.noise import integers_each

STRETCH, SHEAR = 0.15, 0.2
"""Most by which affine maps stretch and shear a digit, as parts of it."""

INFO = Info(
    name="cluttered",
    description="cluttered MNIST, grey 100x100, made from MNIST: a digit at a random place and "
    "eight 8x8 pieces of others; in training, new places and pieces in every epoch",
    licence=mnist.INFO.licence,
    source="made as in Mnih, Heess, Graves, Kavukcuoglu 2014, Recurrent models of visual "
    f"attention; from {mnist.INFO.source}",
    origin="mnist",
)


def load(
    data_dir: Path, size: int = 100, clutter: int = 8, patch: int = 8, affine: bool = False
) -> Dataset:
    """Generate 50,000 / 10,000 / 10,000 images (1, size, size), 256 levels, labels 0..9.

    clutter  number of pieces; 0: the digit alone, 'translated MNIST' (with size=60)
    patch    side of a piece
    affine   in training, every digit is stretched and sheared at random, in every epoch anew
    """
    check("cluttered", size=(size, SIDE, None), clutter=(clutter, 0, None), patch=(patch, 1, SIDE))
    digits = mnist.load(data_dir).splits
    recipe = f"cluttered, {size=}, {clutter=}, {patch=}"
    if affine:
        recipe += f", affine, {STRETCH=}, {SHEAR=}"
    make = partial(scatter, size=size, clutter=clutter, patch=patch, affine=affine)
    return INFO.dataset(256, splits(digits, size, make, recipe, labelled=True))


def scatter(
    split: str,
    digits: Array,
    numbers: Numbers,
    *,
    size: int,
    clutter: int,
    patch: int,
    affine: bool = False,
) -> Array:
    """Generate the images at indices (B,) from a split's digits (N, 28, 28): (B, 1, size, size).

    affine: of 'train', the digits under random affine maps; the pieces are as they are.
    """
    n, b = len(digits), len(numbers)
    place, spot, inside = size - SIDE + 1, size - patch + 1, SIDE - patch + 1
    limits = [place, place] + clutter * [n - 1, inside, inside, spot, spot]
    drawn = integers_each(numbers, limits, "cluttered", split)
    canvas, own = np.zeros((b, size, size), np.uint8), numbers % n
    for piece in drawn[:, 2:].reshape(b, clutter, 5).swapaxes(0, 1):
        other = digits[(own + 1 + piece[:, 0]) % n]  # any digit but its own
        add(canvas, other[area(piece[:, 1:3], (patch, patch))], piece[:, 3:])
    whole = digits[own]
    if affine and split == "train":
        places = _affine.sources(numbers, SIDE, STRETCH, SHEAR, 0, "cluttered affine")
        whole = _affine.bilinear(whole, *places)
    add(canvas, whole, drawn[:, :2])
    return canvas[:, None]
