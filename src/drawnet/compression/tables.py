"""What the coder takes: tables of frequencies, integers that are the same wherever they are made.

    N symbols   L values of each   B images   C H W pixels

All of it is evaluated within `exact.Exact`.
"""

import itertools
import math
from functools import cache
from statistics import NormalDist

import torch
from torch import Tensor

from drawnet.errors import UserError
from drawnet.nn.distributions import (
    Bernoulli,
    CoupledLogistic,
    Gaussian,
    Logistic,
    LogisticMixture,
    Pixels,
)

SCALE = 2.0**22
"""The sum of a table's frequencies, without the one that every value has at least."""
GRID = 2.0**20
"""Numbers from the system's mathematical library are rounded to multiples of 1/GRID."""


@cache
def bins(n: int) -> tuple[Tensor, Tensor]:
    """The inner edges (n-1,) and the centres (n,) of n bins of equal mass of N(0, 1).

    A centre is the bin's mean, n (φ(a) - φ(b)): z keeps the mean that it has under the prior.
    """
    normal = NormalDist()
    inner = [normal.inv_cdf(k / n) for k in range(1, n)]
    density = [0.0, *(normal.pdf(edge) for edge in inner), 0.0]
    centre = [n * (a - b) for a, b in itertools.pairwise(density)]
    edges, centres = ([round(v * GRID) / GRID for v in values] for values in (inner, centre))
    return torch.tensor(edges, dtype=torch.float64), torch.tensor(centres, dtype=torch.float64)


def normal_cdf(x: Tensor) -> Tensor:
    """Φ(x) to 7.5e-8 (Abramowitz & Stegun 1964, 26.2.17)."""
    t = 1 / (0.2316419 * x.abs() + 1)
    p = t * 1.330274429
    for coefficient in (-1.821255978, 1.781477937, -0.356563782, 0.319381530):
        p = (p + coefficient) * t
    tail = p * torch.exp(-0.5 * x * x) * (2 * math.pi) ** -0.5
    return torch.where(x < 0, tail, 1 - tail)


def frequencies(cdf: Tensor) -> Tensor:
    """Inner values of a distribution function (…, L-1) as frequencies >= 1, (…, L), whole numbers."""
    if not cdf.isfinite().all():
        raise UserError("the model's numbers are not finite: it cannot code these images")
    inner = (cdf.clamp(0, 1) * SCALE).floor()
    zero = torch.zeros_like(inner[..., :1])
    upper, lower = torch.cat((inner, zero + SCALE), -1), torch.cat((zero, inner), -1)
    return (upper - lower).clamp_min(0) + 1


def latent_table(q: Gaussian, n: int) -> Tensor:
    """Frequencies (…, n) of the prior's bins under q, in the prior's units."""
    edges, _ = bins(n)
    return frequencies(normal_cdf((edges - q.mu[..., None]) * (-q.log_sigma).exp()[..., None]))


def stages(p: Pixels) -> int:
    """How many parts of an image are coded one after another, each given those before."""
    if isinstance(p, CoupledLogistic):
        return p.mean.shape[1]
    return p.logistics.mu.shape[2] if isinstance(p, LogisticMixture) else 1


def pixel_table(p: Pixels, x: Tensor, stage: int) -> Tensor:
    """Frequencies (B, …, H, W, L) of the values of a stage, given those before in x (B, C, H, W).

    The stages of coupled channels and of a mixture are channels; a mixture's components weigh
    π_k Π P_k(x_c) over those before.
    """
    if isinstance(p, Bernoulli):
        return frequencies(1 - torch.sigmoid(p.logits)[..., None])
    if isinstance(p, Logistic):
        return frequencies(_levels(p))
    if isinstance(p, CoupledLogistic):
        return frequencies(_levels(p.conditional(x, stage)))
    if not isinstance(p, LogisticMixture):
        raise UserError(f"{type(p).__name__} pixels have no table: this model cannot code images")
    weight = p.logits.softmax(1)  # (B, K, H, W)
    for c in range(stage):
        low, high = _ends(
            Logistic(p.logistics.mu[:, :, c], p.logistics.log_scale[:, :, c]), x[:, c]
        )
        weight = weight * ((high - low).clamp_min(0) + 1e-9)
        weight = weight / weight.sum(1, keepdim=True)
    cdf = torch.zeros(())
    for k in range(weight.shape[1]):
        own = Logistic(p.logistics.mu[:, k, stage], p.logistics.log_scale[:, k, stage])
        cdf = weight[:, k, ..., None] * _levels(own) + cdf
    return frequencies(cdf)


def _levels(p: Logistic) -> Tensor:
    """The distribution function between the 256 grey levels, (…, 255)."""
    edges = (torch.arange(255, dtype=torch.float64) + 0.5) / 255
    return torch.sigmoid((edges - p.mu[..., None]) * (-p.log_scale).exp()[..., None])


def _ends(p: Logistic, x: Tensor) -> tuple[Tensor, Tensor]:
    """The distribution function on either side of grey levels x (B, H, W); p is (B, K, H, W)."""
    level, inverse = (x * 255).round()[:, None], (-p.log_scale).exp()
    low = torch.sigmoid(((level - 0.5) / 255 - p.mu) * inverse)
    high = torch.sigmoid(((level + 0.5) / 255 - p.mu) * inverse)
    return (
        torch.where(level < 0.5, torch.zeros_like(low), low),
        torch.where(level > 254.5, torch.ones_like(high), high),
    )
