"""The Parzen window estimate of a likelihood from samples, after Breuleux et al. 2011.

The protocol by which Goodfellow et al. 2014 (arXiv 1406.2661) compare models that have no density.  It
ranks models badly (Theis et al. 2015, arXiv 1511.01844): history, to be read beside better measures.

    log p(x) = log 1/m Σ_k N(x; s_k, σ² I)      s_1..m samples; all of D numbers in [0, 1]
"""

import math
from typing import NamedTuple

from torch import Tensor

from drawnet.nn.distributions import log_density

SIGMAS = [10 ** (k / 9 - 1) for k in range(10)]
"""The σ that are tried: ten from 0.1 to 1, evenly on a log scale."""


class Parzen(NamedTuple):
    """An estimate over n images: mean log density and its standard error, nats; the σ chosen."""

    nats: float
    stderr: float
    sigma: float


def estimate(samples: Tensor, valid: Tensor, test: Tensor) -> Parzen:
    """Of test images, with the σ under which validation images are likeliest."""
    sigma = SIGMAS[int(log_density(valid, samples, *SIGMAS).mean(1).argmax())]
    values = log_density(test, samples, sigma)[0]
    return Parzen(values.mean().item(), (values.std() / math.sqrt(len(values))).item(), sigma)
