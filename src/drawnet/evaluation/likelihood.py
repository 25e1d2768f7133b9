"""Metrics, the bound, the refined and the K-sample bound over every image of a view, each counted once.

Noise is keyed by image, so that results do not depend on the batching.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from drawnet.data.pipeline import ROWS, View
from drawnet.errors import UserError
from drawnet.errors.schema import PositiveInt
from drawnet.evaluation.refine import ROWS as REFINED_ROWS
from drawnet.evaluation.refine import refined_bound
from drawnet.models.base import LikelihoodModel, LossOptions, Model, importance_bound
from drawnet.models.sequential import StepModel
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
    iw_stderr: float | None = None
    """Standard error of iw_nats over the images."""
    iw_gap_stderr: float | None = None
    """Standard error of elbo_nats - iw_nats, image by image."""
    refine_steps: PositiveInt | None = None
    refined_nats: float | None = None
    """The bound with an approximate posterior refined for every image (`refine.py`)."""
    refined_stderr: float | None = None
    refined_gap_stderr: float | None = None
    """Standard error of elbo_nats - refined_nats, image by image."""


@torch.no_grad()
def batches(
    model: Model,
    view: View,
    *,
    importance_samples: int = 0,
    refine: int = 0,
    seed: int = 0,
    rows: int = ROWS,
    skip: int = 0,
) -> Iterator[tuple[range, dict[str, Tensor]]]:
    """Yield the images' numbers and metrics, float64 (n,) or (T, n), batch by batch.

    skip: images, whole batches of them, whose metrics are known.  The rest as in `measure`.
    """
    model.eval()
    for numbers, x, y in view.batches(model, rows):
        if numbers.stop <= skip:
            continue
        metrics = model.loss(x, y, ImageNoise(seed, numbers, model.device), LossOptions()).metrics
        if importance_samples:
            assert isinstance(model, LikelihoodModel)
            k = importance_samples
            metrics = metrics | {"iw": importance_bound(model, x, y, numbers, k, seed, rows)}
        if refine:
            assert isinstance(model, StepModel)
            metrics = metrics | {"refined": refined_bound(model, x, y, numbers, refine, seed)}
        yield numbers, {name: values.cpu().double() for name, values in metrics.items()}


def measure(
    model: Model,
    view: View,
    *,
    importance_samples: int = 0,
    refine: int = 0,
    seed: int = 0,
    rows: int = ROWS,
    progress: bool = False,
) -> dict[str, Tensor]:
    """Return the model's metrics of every image by name, float64 (n,), or (T, n) for sums over steps.

    importance_samples: K of the K-sample bound, metric 'iw', computed for `rows` copies at a time.
    refine: steps of the refined bound, metric 'refined'.
    """
    found: dict[str, list[Tensor]] = {}
    asked = {"importance_samples": importance_samples, "refine": refine, "seed": seed}
    with tqdm(total=len(view), disable=not progress, unit="image", desc=view.split) as bar:
        for numbers, metrics in batches(model, view, rows=rows, **asked):
            for name, values in metrics.items():
                found.setdefault(name, []).append(values)
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
    sd: float | None = None
    """Standard deviation of the mean between draws, where there are several."""


def known(measure: Measure) -> dict[str, float]:
    """Return a mean as JSON values, without a deviation between draws where there is one draw."""
    return {k: v for k, v in asdict(measure).items() if k != "sd" or v is not None}


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
    refine: int | None = None,
    seed: int = 0,
    rows: int = ROWS,
    progress: bool = False,
) -> Evaluation:
    """Evaluate the bound by one draw of the latents for each image; K-sample and refined bound if asked.

    UserError for the refined bound of a model without steps, or of a cost that is no likelihood.
    """
    k, likelihood = importance_samples or 0, is_likelihood(model)
    if refine and not (isinstance(model, StepModel) and likelihood):
        raise UserError("the model has no bound by Gaussian latents to refine: leave out --refine")
    rows = min(rows, REFINED_ROWS) if refine else rows  # for the progress to be seen
    asked = {"importance_samples": k, "refine": refine or 0, "seed": seed, "rows": rows}
    found = measure(model, view, progress=progress, **asked)
    return evaluation_of(found, model, view, importance_samples, refine)


def evaluation_of(
    found: dict[str, Tensor],
    model: LikelihoodModel,
    view: View,
    importance_samples: int | None = None,
    refine: int | None = None,
) -> Evaluation:
    """Summarise what `measure` found, with these settings, over all images of a view."""
    likelihood, nats = is_likelihood(model), found["nats"]
    rate = found.get("rate", nats.new_zeros(0, len(nats)))
    cost = found.get("cross_entropy")
    mean = (found.get("distortion", nats) + rate.sum(0)).mean().item()
    iw = _tighter(nats, found.get("iw") if likelihood else None)
    refined = _tighter(nats, found.get("refined"))
    return Evaluation(
        dataset=view.data.name,
        split=view.split,
        images=len(nats),
        elbo_nats=mean if likelihood else None,
        elbo_stderr=stderr(nats),
        rate_nats=rate.sum(0).mean().item(),
        distortion_nats=found.get("distortion", nats).mean().item(),
        importance_samples=importance_samples,
        iw_nats=iw[0],
        bits_per_dim=mean / (math.prod(model.shape) * math.log(2)) if likelihood else None,
        kl_per_step=rate.mean(1).tolist(),
        cross_entropy_cost_nats=None if cost is None else (cost + rate.sum(0)).mean().item(),
        exact=model.exact,
        iw_stderr=iw[1],
        iw_gap_stderr=iw[2],
        refine_steps=refine,
        refined_nats=refined[0],
        refined_stderr=refined[1],
        refined_gap_stderr=refined[2],
    )


def is_likelihood(model: LikelihoodModel) -> bool:
    """Return whether a model's loss is one, and no cost on intensities."""
    return getattr(model.config, "likelihood", "bernoulli") != "cross_entropy"


def _tighter(nats: Tensor, bound: Tensor | None) -> tuple[float | None, float | None, float | None]:
    """Return mean and standard error of a tighter bound (n,), and the standard error of its gap."""
    if bound is None:
        return None, None, None
    return bound.mean().item(), stderr(bound), stderr(nats - bound)


def over_draws(
    model: Model, view: View, draws: int, *, seed: int = 0, progress: bool = False
) -> dict[str, Measure]:
    """Return every metric's mean over images and draws, and its standard deviation between draws.

    A draw is of all that an evaluation draws: binarisation, the images of a generated data set, latents.
    Draw k has seed + k; draw 0 is that of `measure`.  The standard error is that over the images, each
    averaged over its draws.  UserError if nothing is drawn.
    """
    found: dict[str, list[Tensor]] = {}
    for k in range(draws):
        again = replace(view, draw=view.draw + k)
        for name, values in measure(model, again, seed=seed + k, progress=progress).items():
            found.setdefault(name, []).append(per_image(values))
        if k and all(torch.equal(first, last) for first, *_, last in found.values()):
            raise UserError("nothing in this evaluation is drawn at random: leave out --draws")
    return {name: _over_draws(torch.stack(values)) for name, values in found.items()}


def _over_draws(values: Tensor) -> Measure:
    """Return the mean of (draws, n) with its errors."""
    return Measure(values.mean().item(), stderr(values.mean(0)), values.mean(1).std().item())
