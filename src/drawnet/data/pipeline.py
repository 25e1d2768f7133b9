"""From uint8 images to a model's inputs: crop, binarise, labels, batches.

Noise is keyed by image, so that results do not depend on the batching.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drawnet.data import Dataset, GeneratedImages
from drawnet.errors import UserError
from drawnet.nn.noise import uniform_each
from drawnet.nn.tracing import traced


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Encode labels, int64 (B,), as float32 (B, classes); with 0 classes as (B, 0).

    ValueError for labels that are none of the classes, on the CPU; elsewhere the check would wait.
    """
    checked = classes and labels.device.type == "cpu" and not traced() and len(labels)
    if checked and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"labels are from 0 to {classes - 1}, not {labels.unique().tolist()}")
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()


ROWS = 500
"""Images (or image copies) in memory at a time."""


def to_float(pixels: Tensor, levels: int, noise: Tensor | None) -> Tensor:
    """Convert uint8 (B, C, H, W) to [0, 1]; binarise, 1 where uniform noise < intensity, if given."""
    x = pixels.float() / (levels - 1)
    return x if noise is None else (noise < x).float()


def crop(x: Tensor, shape: tuple[int, int, int], where: Tensor | None = None) -> Tensor:
    """Crop (B, …, H, W) to (B, …, h, w) of `shape` (…, h, w), at the centre or at given positions.

    where: (B, 2) in [0, 1), vertical and horizontal position within the range of possible offsets.
    """
    if x.shape[-2:] == shape[-2:]:
        return x
    sides = list(zip(x.shape[-2:], shape[-2:], strict=True))
    if where is None:
        (top, height), (left, width) = (((whole - part) // 2, part) for whole, part in sides)
        return x[..., top : top + height, left : left + width]
    rows, columns = (
        (start * (whole - part + 1)).long()[:, None] + torch.arange(part, device=x.device)
        for start, (whole, part) in zip(where.unbind(1), sides, strict=True)
    )
    images = torch.arange(len(x), device=x.device)[:, None, None]
    return x.movedim(1, -1)[images, rows[:, :, None], columns[:, None]].movedim(-1, 1)


RESIDENT = 2**31
"""Bytes of images that an accelerator holds; of a larger set each batch is moved there."""


def resident(
    pixels: NDArray[np.uint8] | GeneratedImages, device: torch.device
) -> Tensor | GeneratedImages:
    """Return images where a device best takes them from: there, if they fit and are not generated."""
    if isinstance(pixels, GeneratedImages):
        return pixels
    images = torch.from_numpy(pixels)
    return images.to(device) if images.nbytes <= RESIDENT else images


def take(rows: Tensor | GeneratedImages, indices: Tensor, device: torch.device) -> Tensor:
    """Return these rows of tensors or images on a device; indices: int64 (B,), on the CPU."""
    if isinstance(rows, Tensor):
        indices = indices.to(rows.device)
    return torch.as_tensor(rows[indices]).to(device)


def mean_image(pixels: Tensor | GeneratedImages) -> Tensor:
    """Return the mean of uint8 images (n, C, H, W), float32 (C, H, W), in chunks of bounded memory.

    Of generated images, the mean of the first 16,384.  It is on the CPU, wherever they are.
    """
    n = len(pixels) if isinstance(pixels, Tensor) else min(len(pixels), 1 << 14)
    parts = (torch.as_tensor(pixels[k : min(k + 4096, n)]) for k in range(0, n, 4096))
    sums = sum(part.sum(0, dtype=torch.int64) for part in parts)
    return torch.as_tensor(sums).cpu().float() / n


def fixed_noise(split: str, images: Iterable[int], shape: Any, draw: int = 0) -> Tensor:
    """Return the uniform noise of a split's fixed binarisation for these images."""
    return uniform_each(draw, f"binarise {split}", images, *shape)


def labels(
    data: Dataset,
    split: str,
    classes: int,
    encode: Callable[[Tensor, int], Tensor] = one_hot,
) -> Tensor:
    """Encode a split's labels for a model of so many classes: (n, classes), one-hot by default.

    UserError if the set has no labels, or labels outside 0 .. classes - 1.
    """
    images = data.splits[split]
    if not classes:
        return torch.zeros(len(images), 0)
    if images.labels is None:
        raise UserError(
            f"{data.name} has no labels: use a data set that has them, or --model.classes 0"
        )
    low, high = int(images.labels.min()), int(images.labels.max())
    if low < 0 or high >= classes:
        raise UserError(
            f"{data.name} has labels from {low} to {high}, the model takes 0 to {classes - 1}: "
            f"use --model.classes {max(high + 1, classes)} or other labels"
        )
    return encode(torch.from_numpy(images.labels), classes)


class Conditioned(Protocol):
    """What a view needs to know of a model."""

    shape: tuple[int, int, int]
    classes: int

    @property
    def device(self) -> torch.device: ...

    @staticmethod
    def encode_labels(labels: Tensor, classes: int) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class View:
    """A split of a data set, or a part of it, as evaluation sees it.

    binarise  as in `Data.binarise`; either draw is fixed for each image
    part      which images of the split, by position; they are renumbered from 0
    draw      which draw of the binarisation, and of images that are generated
    """

    data: Dataset
    split: str
    binarise: Literal["no", "static", "dynamic"] = "no"
    part: slice | NDArray[np.int64] = field(default_factory=lambda: slice(None))
    draw: int = 0

    @cached_property
    def pixels(self) -> Tensor:
        """uint8 (n, C, H, W)."""
        images = self.data.splits[self.split]
        if self.draw and images.source:
            numbers = np.arange(len(images))[self.part] + self.draw * len(images)
            return torch.from_numpy(images.source[numbers])
        return torch.from_numpy(images.pixels[self.part])

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(
        self, model: Conditioned, rows: int = ROWS
    ) -> Iterator[tuple[range, Tensor, Tensor]]:
        """Yield (numbers, x, y) of all images, as the model takes them and where it lies, in order."""
        y = labels(self.data, self.split, model.classes, model.encode_labels)[self.part]
        for first in range(0, len(self), rows):
            numbers = range(first, min(first + rows, len(self)))
            pixels, noise = self.pixels[first : first + rows].to(model.device), None
            if self.binarise != "no":
                noise = fixed_noise(self.split, numbers, pixels.shape[1:], self.draw)
                noise = noise.to(model.device)
            x = crop(to_float(pixels, self.data.levels, noise), model.shape)
            yield numbers, x, y[first : first + rows].to(model.device)
