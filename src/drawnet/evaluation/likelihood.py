"""Evaluation: measures, the bound and the K-sample bound over every image of a split, each once.

Noise is keyed by image, so that the figures do not depend on how images are batched.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from drawnet.data.config import Data
from drawnet.data.pipeline import ROWS, batches, crop
from drawnet.models.base import LikelihoodModel, LossOptions, Model
from drawnet.nn.noise import DrawNoise, ImageNoise


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


@torch.no_grad()
def measure(
    model: Model,
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

    y: their labels (n, classes), one-hot, for a model that is labels them.
    """
    model.eval()
    y = torch.zeros(len(pixels), 0) if y is None else y
    found: dict[str, list[Tensor]] = {}
    bar = tqdm(total=len(pixels), disable=not progress, unit="image", desc=split)
    for numbers, whole in batches(pixels, levels, data, split):
        x, labels = crop(whole, model.shape), y[numbers.start : numbers.stop]
        noise, how = ImageNoise(seed, numbers), LossOptions(precision)
        for name, values in model.objective(x, labels, noise, how).measures.items():
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
    model: LikelihoodModel,
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

    y: their labels (n, classes), one-hot, for a model that is labels them.
    importance_samples: K of the K-sample bound, computed `rows` copies of images at a time.
    """
    model.eval()
    y = torch.zeros(len(pixels), 0) if y is None else y
    distortion, rate, cross_entropy, iw = [], [], [], []
    bar = tqdm(total=len(pixels), disable=not progress, unit="image", desc=split)
    for numbers, whole in batches(pixels, levels, data, split, rows):
        x = crop(whole, model.shape)
        labels = y[numbers.start : numbers.stop]
        costs = model.costs(x, labels, ImageNoise(seed, numbers), precision)
        distortion.append(costs.distortion.double())
        rate.append(costs.rate.double())
        if costs.cross_entropy is not None:
            cross_entropy.append(costs.cross_entropy.double())
        if importance_samples:
            k = importance_samples
            iw.append(importance_bound(model, x, numbers, k, seed, precision, rows, labels))
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
    model: LikelihoodModel,
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
            copies, labels = (part[images].repeat_interleave(len(draws), 0) for part in (x, y))
            w = model.log_weights(copies, labels, noise, precision).double()
            sums[images] = torch.logaddexp(sums[images], w.view(-1, len(draws)).logsumexp(1))
    return math.log(k) - sums
