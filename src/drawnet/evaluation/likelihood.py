"""Metrics, the bound and the K-sample bound over every image of a view, each counted once.

Noise is keyed by image, so that results do not depend on the batching.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from drawnet.data.pipeline import ROWS, View
from drawnet.errors.schema import PositiveInt
from drawnet.models.base import LikelihoodModel, LossOptions, Model, importance_bound
from drawnet.nn.noise import ImageNoise


@dataclass(frozen=True)
class Evaluation:
    """Means over the images of a view, in nats per image unless named otherwise."""

    dataset: str
    split: str
    images: PositiveInt
    elbo_nats: float | None
    """The bound on -log p(x), or -log p(x) if `exact`; None where the loss is no likelihood."""
    elbo_stderr: float | None
    """Standard error of that mean over the images."""
    rate_nats: float
    distortion_nats: float
    importance_samples: PositiveInt | None
    iw_nats: float | None
    """The bound from K importance samples."""
    bits_per_dim: float | None
    """elbo_nats / (C·H·W·ln 2)."""
    kl_per_step: list[float]
    cross_entropy_cost_nats: float | None = None
    """The paper's cost of grey levels: rate + cross-entropy of intensities and the mean image.

    No code length; computed alike for every likelihood; None for binary pixels."""
    exact: bool = False
    """Whether the model has no latents, so that elbo_nats is -log p(x)."""


@torch.no_grad()
def measure(
    model: Model,
    view: View,
    *,
    importance_samples: int = 0,
    seed: int = 0,
    rows: int = ROWS,
    progress: bool = False,
) -> dict[str, Tensor]:
    """Return the model's metrics of every image by name, float64 (n,), or (T, n) for sums over steps.

    importance_samples: K of the K-sample bound, metric 'iw', computed for `rows` copies at a time.
    """
    model.eval()
    found: dict[str, list[Tensor]] = {}
    with tqdm(total=len(view), disable=not progress, unit="image", desc=view.split) as bar:
        for numbers, x, y in view.batches(model, rows):
            noise = ImageNoise(seed, numbers, model.device)
            metrics = model.loss(x, y, noise, LossOptions()).metrics
            if importance_samples:
                assert isinstance(model, LikelihoodModel)
                k = importance_samples
                metrics = metrics | {"iw": importance_bound(model, x, y, numbers, k, seed, rows)}
            for name, values in metrics.items():
                found.setdefault(name, []).append(values.cpu().double())
            bar.update(len(numbers))
    return {name: torch.cat(parts, -1) for name, parts in found.items()}


def per_image(values: Tensor) -> Tensor:
    """Sum a metric over steps, if it has steps: (n,) or (T, n) -> (n,)."""
    return values.sum(0) if values.dim() == 2 else values


@dataclass(frozen=True)
class Measure:
    """A mean over images."""

    mean: float
    stderr: float | None = None
    """Its standard error; None for one image."""


def summary(measured: dict[str, Tensor]) -> dict[str, Measure]:
    """Return the mean of every metric over the images."""
    images = {name: per_image(values) for name, values in measured.items()}
    return {name: Measure(v.mean().item(), stderr(v)) for name, v in images.items()}


def stderr(values: Tensor) -> float | None:
    """Return the standard error of the mean of (n,); None for a single value."""
    return (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else None


def evaluate(
    model: LikelihoodModel,
    view: View,
    *,
    importance_samples: int | None = None,
    seed: int = 0,
    rows: int = ROWS,
    progress: bool = False,
) -> Evaluation:
    """Evaluate the bound by one draw of the latents for each image, and the K-sample bound if asked."""
    k = importance_samples or 0
    found = measure(model, view, importance_samples=k, seed=seed, rows=rows, progress=progress)
    nats = found["nats"]
    rate = found.get("rate", nats.new_zeros(0, len(nats)))
    likelihood = getattr(model.config, "likelihood", "bernoulli") != "cross_entropy"
    cost = found.get("cross_entropy")
    mean = (found.get("distortion", nats) + rate.sum(0)).mean().item()
    return Evaluation(
        dataset=view.data.name,
        split=view.split,
        images=len(nats),
        elbo_nats=mean if likelihood else None,
        elbo_stderr=stderr(nats),
        rate_nats=rate.sum(0).mean().item(),
        distortion_nats=found.get("distortion", nats).mean().item(),
        importance_samples=importance_samples,
        iw_nats=found["iw"].mean().item() if k and likelihood else None,
        bits_per_dim=mean / (math.prod(model.shape) * math.log(2)) if likelihood else None,
        kl_per_step=rate.mean(1).tolist(),
        cross_entropy_cost_nats=None if cost is None else (cost + rate.sum(0)).mean().item(),
        exact=model.exact,
    )
