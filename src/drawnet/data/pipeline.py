"""From uint8 images to what a model sees: crop, binarise, labels, batches.

Noise is keyed by image, so that nothing depends on how images are batched.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from drawnet.data import Dataset, GeneratedImages
from drawnet.data.config import Data
from drawnet.errors import UserError
from drawnet.nn.noise import uniform_each


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """int64 (B,) -> float32 (B, classes); with no classes (B, 0), whatever the labels."""
    if classes and len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"labels are from 0 to {classes - 1}, not {labels.unique().tolist()}")
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()


ROWS = 500
"""Images (or image copies) in memory at a time."""


def to_float(pixels: Tensor, levels: int, noise: Tensor | None) -> Tensor:
    """uint8 (B, C, H, W) -> values in [0, 1]; binarised where uniform noise < intensity."""
    x = pixels.float() / (levels - 1)
    return x if noise is None else (noise < x).float()


def crop(x: Tensor, shape: tuple[int, int, int], where: Tensor | None = None) -> Tensor:
    """(B, …, H, W) -> (B, …, h, w) of `shape` (…, h, w): the middle of every image, or a part of it.

    where: (B, 2) in [0, 1), how far down and to the right of all the places that there are.
    """
    if x.shape[-2:] == shape[-2:]:
        return x
    sides = list(zip(x.shape[-2:], shape[-2:], strict=True))
    if where is None:
        (top, height), (left, width) = (((whole - part) // 2, part) for whole, part in sides)
        return x[..., top : top + height, left : left + width]
    rows, columns = (
        (start * (whole - part + 1)).long()[:, None] + torch.arange(part)
        for start, (whole, part) in zip(where.unbind(1), sides, strict=True)
    )
    images = torch.arange(len(x))[:, None, None]
    return x.movedim(1, -1)[images, rows[:, :, None], columns[:, None]].movedim(-1, 1)


def mean_image(pixels: Tensor | GeneratedImages) -> Tensor:
    """The mean of uint8 images (n, C, H, W), float32 (C, H, W), without a float copy of them all.

    Of images that are made when asked for, the mean of the first 16,384.
    """
    n = len(pixels) if isinstance(pixels, Tensor) else min(len(pixels), 1 << 14)
    parts = (torch.as_tensor(pixels[k : min(k + 4096, n)]) for k in range(0, n, 4096))
    sums = sum(part.sum(0, dtype=torch.int64) for part in parts)
    return torch.as_tensor(sums).float() / n


def fixed_noise(data: Data, split: str, images: Iterable[int], shape: Any) -> Tensor | None:
    """The uniform noise that binarises these images of a split for good, or None."""
    if data.binarise == "no":
        return None
    return uniform_each(0, f"binarise {split}", images, *shape)


def labels(
    data: Dataset,
    split: str,
    classes: int,
    encode: Callable[[Tensor, int], Tensor] = one_hot,
) -> Tensor:
    """What a model of so many classes is told of a split's images: one-hot (n, classes).

    UserError if the set has no labels, or others than 0 .. classes - 1.
    """
    images = data.splits[split]
    if not classes:
        return torch.zeros(len(images), 0)
    if images.labels is None:
        raise UserError(
            f"{data.name} has no labels to tell the model: take a set that has, or --model.classes 0"
        )
    low, high = int(images.labels.min()), int(images.labels.max())
    if low < 0 or high >= classes:
        raise UserError(
            f"{data.name} has labels from {low} to {high}, the model takes 0 to {classes - 1}: "
            f"--model.classes {max(high + 1, classes)} or other labels"
        )
    return encode(torch.from_numpy(images.labels), classes)


def batches(
    pixels: Tensor, levels: int, data: Data, split: str, rows: int = ROWS
) -> Iterator[tuple[range, Tensor]]:
    """(image numbers, values) over a whole split, the last partial batch included."""
    for first in range(0, len(pixels), rows):
        numbers = range(first, min(first + rows, len(pixels)))
        part = pixels[first : first + rows]
        noise = fixed_noise(data, split, numbers, part.shape[1:])
        yield numbers, to_float(part, levels, noise)
