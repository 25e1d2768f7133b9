"""Images made of MNIST's digits at random places: what such data sets share.

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

    What exceeds 255 is 255: no light is negative, so clipping at once or in the end is the same.
    """
    where = area(corners, patches.shape[1:])
    light = canvas[where].astype(np.uint16) + patches
    canvas[where] = light.clip(max=255)


def area(corners: Numbers, sides: tuple[int, ...]) -> tuple[Numbers, Numbers, Numbers]:
    """The index that cuts an (h, w) from each of B images, its upper left corners at (B, 2)."""
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
    """As many images of each split as it has digits: train made anew in every epoch, the others kept.

    make: split, its digits (N, 28, 28), numbers (B,) -> images (B, 1, size, size)
    """
    found = {}
    for split, images in digits.items():
        sources = images.pixels[:][:, 0]
        made = GeneratedImages(
            (len(sources), 1, size, size), partial(make, split, sources), sources, recipe
        )
        pixels = made if split == "train" else made[:]
        found[split] = Images(pixels, images.labels if labelled else None)
    return found


def check(name: str, **settings: tuple[int, int, int | None]) -> None:
    """UserError unless each setting (value, least, most) is a whole number in its bounds."""
    for option, (value, low, high) in settings.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < low or (high is not None and value > high):
            bounds = f"from {low} on" if high is None else f"from {low} to {high}"
            raise UserError(f"{name}: {option} is {value!r}: choose a whole number {bounds}")
