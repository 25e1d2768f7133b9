"""Images made of MNIST's digits at random places: code shared by these data sets.

B images   N digits of a split   S side of an image   h w sides of a patch
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from drawnet.data import GeneratedImages, Images
from drawnet.errors import UserError

SIDE = 28
Array = NDArray[np.uint8]
Numbers = NDArray[np.int64]


def add(canvas: Array, patches: Array, corners: Numbers) -> None:
    """Add patches (B, h, w) to images (B, S, S), in place, their upper left corners at (B, 2).

    Sums are clipped at 255; no value is negative, so clipping every sum or only the last is the same.
    """
    where = area(corners, patches.shape[1:])
    light = canvas[where].astype(np.uint16) + patches
    canvas[where] = light.clip(max=255)


def area(corners: Numbers, sides: tuple[int, ...]) -> tuple[Numbers, Numbers, Numbers]:
    """Return the index that cuts an (h, w) patch from each of B images, upper left corners at (B, 2)."""
    images = np.arange(len(corners))[:, None, None]
    rows, columns = (corners[:, axis, None] + np.arange(sides[axis]) for axis in (0, 1))
    return images, rows[:, :, None], columns[:, None]


def splits(
    digits: dict[str, Images],
    size: int,
    make: Callable[[str, Array, Numbers], Array],
    recipe: str,
    *,
    labelled: bool,
) -> dict[str, Images]:
    """Return as many images per split as it has digits; train is generated anew in every epoch.

    make: split, its digits (N, 28, 28), indices (B,) -> images (B, 1, size, size)
    """
    found = {}
    for split, images in digits.items():
        sources = images.pixels[:][:, 0]
        generated = GeneratedImages(
            (len(sources), 1, size, size), partial(make, split, sources), sources, recipe
        )
        pixels = generated if split == "train" else generated[:]
        found[split] = Images(pixels, images.labels if labelled else None, generated)
    return found


def check(name: str, **settings: tuple[int, int, int | None]) -> None:
    """Raise UserError unless each setting (value, least, most) is an integer within its bounds."""
    for option, (value, low, high) in settings.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < low or (high is not None and value > high):
            bounds = f"from {low} on" if high is None else f"from {low} to {high}"
            raise UserError(f"{name}: {option} is {value!r}: choose an integer {bounds}")
