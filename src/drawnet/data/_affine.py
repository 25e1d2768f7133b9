"""Random affine maps of training images, in integers, so that they are the same on every machine.

B images   S side   coordinates in thousandths of a pixel
"""

import numpy as np
from numpy.typing import NDArray

from drawnet.nn.noise import integers_each

Integers = NDArray[np.int64]


def sources(
    numbers: Integers, side: int, stretch: float, shear: float, shift: int, *key: str
) -> tuple[Integers, Integers]:
    """Return where the pixels of images (B,) take their light from: rows and columns (B, S, S).

    A pixel at p from the centre takes that at (I + A) p + t: A within `stretch` on its diagonal and
    within `shear` off it, t within `shift` pixels, each uniform and an image's own.
    """
    limits = [round(1000 * part) for part in (stretch, shear, shear, stretch)]
    drawn = integers_each(numbers, 2 * np.array([*limits, shift, shift]) + 1, *key)
    a, b, c, d, down, right = (drawn - [*limits, shift, shift]).T[:, :, None, None]
    y, x = np.mgrid[:side, :side] - side // 2
    centre = 1000 * (side // 2)
    rows = (1000 + a) * y + b * x + 1000 * down + centre
    columns = c * y + (1000 + d) * x + 1000 * right + centre
    return rows, columns


def nearest(images: NDArray[np.uint8], rows: Integers, columns: Integers) -> NDArray[np.uint8]:
    """Return the pixels of images (B, S, S) nearest to these places; 0 outside."""
    return _at(images, (rows + 500) // 1000, (columns + 500) // 1000)


def bilinear(images: NDArray[np.uint8], rows: Integers, columns: Integers) -> NDArray[np.uint8]:
    """Interpolate images (B, S, S) at these places, rounded; 0 outside."""
    total: Integers = np.zeros(rows.shape, np.int64)
    for down in (0, 1):
        for right in (0, 1):
            y, x = rows // 1000 + down, columns // 1000 + right
            weight = (1000 - abs(rows - 1000 * y)) * (1000 - abs(columns - 1000 * x))
            total += weight * _at(images, y, x)
    return ((total + 500_000) // 1_000_000).astype(np.uint8)


def _at(images: NDArray[np.uint8], y: Integers, x: Integers) -> NDArray[np.uint8]:
    side = images.shape[-1]
    inside = (y >= 0) & (y < side) & (x >= 0) & (x < side)
    which = np.arange(len(images))[:, None, None]
    found: NDArray[np.uint8] = images[which, y.clip(0, side - 1), x.clip(0, side - 1)] * inside
    return found
