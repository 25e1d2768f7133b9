"""Evaluation: measures, the bound and the K-sample bound over every image of a split, each once.

Noise is keyed by image, so that the figures do not depend on how images are batched.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from drawnet.data import Dataset, Made
from drawnet.errors import UserError
from drawnet.learner import Bounded, How, Learner, one_hot
from drawnet.randomness import DrawNoise, ImageNoise, uniform_each
from drawnet.run import Data

ROWS = 500
"""Images (or image copies) in memory at a time."""


@dataclass(frozen=True)
class Evaluation:
    """Means over the images of a split, in nats an image unless named otherwise."""

    dataset: str
    split: str
    images: int
    elbo_nats: float | None
    """The bound on -log p(x), or that itself if `exact`; None where the pixels' is no likelihood."""
    elbo_stderr: float | None
    """Standard error of that mean over the images."""
    rate_nats: float
    distortion_nats: float
    importance_samples: int | None
    iw_nats: float | None
    """The bound from K importance samples."""
    bits_per_dim: float | None
    """elbo_nats / (C·H·W·ln 2)."""
    kl_per_step: list[float]
    cross_entropy_cost_nats: float | None = None
    """The paper's cost of grey levels: rate + cross-entropy of intensities and the mean image.

    No code length, and the same whatever the model was trained by; None for binary pixels."""
    exact: bool = False
    """Whether the model has no latents, so that elbo_nats is no bound but -log p(x)."""


def prepare(pixels: Tensor, levels: int, noise: Tensor | None) -> Tensor:
    """uint8 (B, C, H, W) -> values in [0, 1]; binarised where uniform noise < intensity."""
    x = pixels.float() / (levels - 1)
    return x if noise is None else (noise < x).float()


def window(x: Tensor, shape: tuple[int, int, int], where: Tensor | None = None) -> Tensor:
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


def mean_image(pixels: Tensor | Made) -> Tensor:
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
    told: Callable[[Tensor, int], Tensor] = one_hot,
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
    return told(torch.from_numpy(images.labels), classes)


def batches(
    pixels: Tensor, levels: int, data: Data, split: str, rows: int = ROWS
) -> Iterator[tuple[range, Tensor]]:
    """(image numbers, values) over a whole split, the last partial batch included."""
    for first in range(0, len(pixels), rows):
        numbers = range(first, min(first + rows, len(pixels)))
        part = pixels[first : first + rows]
        noise = fixed_noise(data, split, numbers, part.shape[1:])
        yield numbers, prepare(part, levels, noise)


@torch.no_grad()
def measure(
    model: Learner,
    pixels: Tensor,
    levels: int,
    data: Data,
    split: str,
    y: Tensor | None = None,
    *,
    seed: int = 0,
    precision: torch.dtype | None = None,
    progress: bool = False,
) -> dict[str, Tensor]:
    """The model's measures of every image (n, C, H, W) uint8 of so many levels: name -> (n,), float64.

    y: their labels (n, classes), one-hot, for a model that is told them.
    """
    model.eval()
    y = torch.zeros(len(pixels), 0) if y is None else y
    found: dict[str, list[Tensor]] = {}
    bar = tqdm(total=len(pixels), disable=not progress, unit="image", desc=split)
    for numbers, whole in batches(pixels, levels, data, split):
        x, told = window(whole, model.shape), y[numbers.start : numbers.stop]
        noise, how = ImageNoise(seed, numbers), How(precision)
        for name, values in model.objective(x, told, noise, how).measures.items():
            found.setdefault(name, []).append(values.double())
        bar.update(len(numbers))
    bar.close()
    return {name: torch.cat(parts) for name, parts in found.items()}


def summary(measured: dict[str, Tensor]) -> dict[str, dict[str, float | None]]:
    """Mean and its standard error over the images, of every measure; one image has none."""
    return {name: {"mean": v.mean().item(), "stderr": stderr(v)} for name, v in measured.items()}


def stderr(values: Tensor) -> float | None:
    """The standard error of the mean of (n,); None for a single value."""
    return (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else None


@torch.no_grad()
def evaluate(
    model: Bounded,
    pixels: Tensor,
    levels: int,
    data: Data,
    split: str,
    y: Tensor | None = None,
    *,
    importance_samples: int | None = None,
    seed: int = 0,
    precision: torch.dtype | None = None,
    rows: int = ROWS,
    progress: bool = False,
    name: str | None = None,
) -> Evaluation:
    """Evaluate on pixels (n, C, H, W) uint8 of so many levels, or their middle, one draw an image.

    y: their labels (n, classes), one-hot, for a model that is told them.
    importance_samples: K of the K-sample bound, computed `rows` copies of images at a time.
    """
    model.eval()
    y = torch.zeros(len(pixels), 0) if y is None else y
    distortion, rate, cross_entropy, iw = [], [], [], []
    bar = tqdm(total=len(pixels), disable=not progress, unit="image", desc=split)
    for numbers, whole in batches(pixels, levels, data, split, rows):
        x = window(whole, model.shape)
        told = y[numbers.start : numbers.stop]
        costs = model.costs(x, told, ImageNoise(seed, numbers), precision)
        distortion.append(costs.distortion.double())
        rate.append(costs.rate.double())
        if costs.cross_entropy is not None:
            cross_entropy.append(costs.cross_entropy.double())
        if importance_samples:
            k = importance_samples
            iw.append(importance_bound(model, x, numbers, k, seed, precision, rows, told))
        bar.update(len(numbers))
    bar.close()
    d, r = torch.cat(distortion), torch.cat(rate, 1)
    total = d + r.sum(0)
    likelihood = getattr(model.config, "likelihood", "bernoulli") != "cross_entropy"
    paper = (torch.cat(cross_entropy) + r.sum(0)).mean().item() if cross_entropy else None
    mean = total.mean().item()
    dims = math.prod(model.shape) * math.log(2)
    return Evaluation(
        dataset=name or data.name,
        split=split,
        images=len(total),
        elbo_nats=mean if likelihood else None,
        elbo_stderr=stderr(total),
        rate_nats=r.sum(0).mean().item(),
        distortion_nats=d.mean().item(),
        importance_samples=importance_samples,
        iw_nats=torch.cat(iw).mean().item() if iw and likelihood else None,
        bits_per_dim=mean / dims if likelihood else None,
        kl_per_step=r.mean(1).tolist(),
        cross_entropy_cost_nats=paper,
        exact=model.exact,
    )


def importance_bound(
    model: Bounded,
    x: Tensor,
    numbers: range,
    k: int,
    seed: int,
    precision: torch.dtype | None,
    rows: int = ROWS,
    y: Tensor | None = None,
) -> Tensor:
    """-log 1/K Σ_k p(x, z_k)/q(z_k | x) of each image, (B,) float64, `rows` copies at a time."""
    y, group = torch.zeros(len(x), 0) if y is None else y, max(1, rows // k)
    sums = torch.full((len(x),), -math.inf, dtype=torch.float64)
    for start in range(0, len(x), group):
        images = slice(start, min(start + group, len(x)))
        for first in range(0, k, rows):
            draws = range(first, min(first + rows, k))
            noise = DrawNoise(seed, numbers[images], draws)
            copies, told = (part[images].repeat_interleave(len(draws), 0) for part in (x, y))
            w = model.log_weights(copies, told, noise, precision).double()
            sums[images] = torch.logaddexp(sums[images], w.view(-1, len(draws)).logsumexp(1))
    return math.log(k) - sums
