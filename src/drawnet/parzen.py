"""The Parzen window estimate of a likelihood from samples, after Breuleux et al. 2011.

The protocol by which Goodfellow et al. 2014 (arXiv 1406.2661) compare models that have no density.  It
ranks models badly (Theis et al. 2015, arXiv 1511.01844): history, to be read beside better measures.

    log p(x) = log 1/m Σ_k N(x; s_k, σ² I)      s_1..m samples; all of D numbers in [0, 1]
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

SIGMAS = [10 ** (k / 9 - 1) for k in range(10)]
"""The σ that are tried: ten from 0.1 to 1, evenly on a log scale."""
ROWS = 500
"""Images whose distances to all the samples are in memory at a time."""


class Parzen(NamedTuple):
    """An estimate over n images: mean log density and its standard error, nats; the σ chosen."""

    nats: float
    stderr: float
    sigma: float


def log_density(x: Tensor, samples: Tensor, *sigmas: float) -> Tensor:
    """log p(x) for every σ, (len(sigmas), n) float64, nats; x (n, …) and samples (m, …) in [0, 1]."""
    s = samples.flatten(1).double()
    (m, d), lengths = s.shape, (s**2).sum(1)
    found = []
    for part in x.flatten(1).double().split(ROWS):
        squares = (part**2).sum(1)[:, None] - 2 * part @ s.T + lengths
        found.append(torch.stack([(-squares / (2 * v**2)).logsumexp(1) for v in sigmas]))
    constant = torch.tensor(
        [math.log(m) + d * math.log(math.sqrt(2 * math.pi) * v) for v in sigmas]
    )
    return torch.cat(found, 1) - constant.double()[:, None]


def estimate(samples: Tensor, valid: Tensor, test: Tensor) -> Parzen:
    """Of test images, with the σ under which validation images are likeliest."""
    sigma = SIGMAS[int(log_density(valid, samples, *SIGMAS).mean(1).argmax())]
    values = log_density(test, samples, sigma)[0]
    return Parzen(values.mean().item(), (values.std() / math.sqrt(len(values))).item(), sigma)
