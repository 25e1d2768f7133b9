"""The Parzen window estimate of a likelihood from samples, after Breuleux et al. 2011.

The protocol by which Goodfellow et al. 2014 (arXiv 1406.2661) compare models without a density.  It
ranks models badly (Theis et al. 2015, arXiv 1511.01844) and is of historical interest.

    log p(x) = log 1/m Σ_k N(x; s_k, σ² I)      s_1..m samples; all of D numbers in [0, 1]
"""

import math
from typing import NamedTuple

from torch import Tensor

from drawnet.nn.distributions import log_density

SIGMAS = [10 ** (k / 9 - 1) for k in range(10)]
"""Candidates for σ: ten from 0.1 to 1, evenly spaced on a log scale."""


class Parzen(NamedTuple):
    """An estimate over n images: mean log density and its standard error, nats; the chosen σ."""

    nats: float
    stderr: float
    sigma: float


def estimate(samples: Tensor, valid: Tensor, test: Tensor) -> Parzen:
    """Estimate the density of test images, with the σ that maximises that of validation images."""
    sigma = SIGMAS[int(log_density(valid, samples, *SIGMAS).mean(1).argmax())]
    values = log_density(test, samples, sigma)[0]
    return Parzen(values.mean().item(), (values.std() / math.sqrt(len(values))).item(), sigma)
