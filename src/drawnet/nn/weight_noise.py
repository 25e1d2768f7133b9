"""Adaptive weight noise (Graves 2011, 'Practical variational inference for neural networks').

In training a weight is Gaussian, with a mean and a deviation that are both learned; elsewhere it is its
mean.  The weights' own description length is part of the loss:

    w ~ N(μ, σ²)          KL(q(W) || N(0, s²)) = n/2 log mean(μ² + σ²) - Σ log σ,    at the best s²

Every row x has weights of its own, by drawing what they do to it (local reparametrisation; Kingma,
Salimans & Welling 2015, arXiv 1506.02557):

    W x ~ N(μ x, σ² x²)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawnet.nn.noise import NoiseSource

SIGMA = 0.05
"""Deviation of a weight at the start."""


class Weights(nn.Module):
    """A matrix (out, in), x (…, in) -> W x (…, out); with `noisy`, of Gaussian weights."""

    def __init__(self, weight: Tensor, noisy: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.log_sigma = nn.Parameter(torch.full_like(weight, SIGMA).log()) if noisy else None
        self.eps: Callable[..., Tensor] | None = None

    def used(self, weight: Tensor) -> Tensor:
        """The weights that are used, the others 0."""
        return weight

    def forward(self, x: Tensor) -> Tensor:
        mean = F.linear(x, self.used(self.weight))
        if self.eps is None or self.log_sigma is None:
            return mean
        variance = F.linear(x * x, self.used((2 * self.log_sigma).exp()))
        return mean + (variance + 1e-12).sqrt() * self.eps(*mean.shape)

    def cost(self) -> Tensor:
        """KL from the best Gaussian, nats, of all used weights; 0 without noise."""
        if self.log_sigma is None:
            return self.weight.new_zeros(())
        square = self.used(self.weight**2 + (2 * self.log_sigma).exp()).sum()
        n = self.used(torch.ones_like(self.weight)).sum()
        return n / 2 * (square / n).log() - self.used(self.log_sigma).sum()


@contextmanager
def drawn(model: nn.Module, noise: NoiseSource) -> Iterator[None]:
    """Draw the model's noisy weights by this noise, the same at every use."""
    layers = {name: m for name, m in model.named_modules() if isinstance(m, Weights)}
    for name, layer in layers.items():
        layer.eps = partial(noise.normal, f"weights {name}")
    try:
        yield
    finally:
        for layer in layers.values():
            layer.eps = None


def cost(model: nn.Module) -> Tensor:
    """Description length of all the model's noisy weights, nats."""
    return sum((m.cost() for m in model.modules() if isinstance(m, Weights)), torch.zeros(()))
