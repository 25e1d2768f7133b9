"""Deep generative stochastic networks (Bengio, Thibodeau-Laufer et al. 2014, arXiv 1306.1091).

A Markov chain over images with a learned transition: corrupt the image, then reconstruct it.

    x̃     = x, but a share of the pixels is 0 or 1 at random            salt and pepper
    h1    = tanh(W1 x̃ + W2ᵀ h2 + b1)                                    no noise in this layer
    x̂     = σ(W1ᵀ h1 + b0)                                              the reconstruction
    h2    = tanh(W2 h1 + b2 + s ε) + s ε'                               ε, ε' ~ N(0, I)
    x'    ~ Bernoulli(x̂), corrupted again                               the next step's x̃

Training walks back: from an image x and h2 = 0 it takes some steps, and the loss is that of every x̂
on the way: Σ_t -log p(x | x̂_t).  No gradient passes through a sampled x'.  A sample is the x̂ at the end
of one chain.  The paper's samples are consecutive x̂ of one chain that starts at a test image
(`benchmarks/chains.py`); these chains start at pixels sampled independently from the mean training
image, and each gives one.

    x   images (B, C, H, W), values in [0, 1]    h1, h2   hidden layers (B, units)    B   images
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawnet.errors import schema
from drawnet.errors.schema import NonNegative, PositiveInt, Share
from drawnet.models.base import ImplicitModel, LossOptions, Terms
from drawnet.nn.noise import NoiseSource


@dataclass(frozen=True)
class GSNConfig:
    """Sizes and noises of the chain; the defaults are the authors' for MNIST."""

    units: PositiveInt = 1500
    """Units in each of the two hidden layers."""
    walk_back: PositiveInt = 4
    """Steps that training takes from an image."""
    corruption: Share = 0.4
    """Share of the pixels that salt and pepper replace."""
    sigma: NonNegative = 2.0
    """s, deviation of the upper layer's noise, before its tanh and again after it."""
    chain: PositiveInt = 50
    """Steps from the start to a sample, one chain for each sample."""

    def __post_init__(self) -> None:
        schema.check(self, "--model.")


class GSN(ImplicitModel):
    """Two hidden layers, the weights of which serve both ways."""

    selection_metric = "cost"
    mean: Tensor

    def __init__(self, config: GSNConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        pixels, units = math.prod(shape), config.units
        self.lower = nn.Parameter(torch.empty(units, pixels))
        self.upper = nn.Parameter(torch.empty(units, units))
        for weight in (self.lower, self.upper):
            nn.init.xavier_uniform_(weight)
        self.register_buffer("mean", torch.full((pixels,), 0.5))
        self.b0, self.b1, self.b2 = (nn.Parameter(torch.zeros(n)) for n in (pixels, units, units))

    @torch.no_grad()
    def init_from_mean(self, mean: Tensor) -> None:
        """Remember the mean training image (C, H, W), where chains start."""
        self.mean.copy_(mean.flatten())

    def step(self, x: Tensor, h2: Tensor, noise: NoiseSource, t: int) -> tuple[Tensor, Tensor]:
        """Logits of x̂ and the next h2, from a corrupted x (B, C·H·W) and h2 (B, units)."""
        h1 = (F.linear(x, self.lower, self.b1) + h2 @ self.upper).tanh()
        logits = F.linear(h1, self.lower.T, self.b0).float()
        before, after = (noise.normal(f"{k} {t}", *h2.shape) for k in ("before", "after"))
        upper = F.linear(h1, self.upper, self.b2)
        return logits, (upper + self.config.sigma * before).tanh() + self.config.sigma * after

    def corrupt(self, x: Tensor, noise: NoiseSource, t: int) -> Tensor:
        """Salt and pepper: of the share that is replaced, half becomes 0 and half 1."""
        u, share = noise.uniform(f"salt {t}", *x.shape), self.config.corruption
        return torch.where(u < share, (u < share / 2).to(x), x)

    def loss(self, x: Tensor, y: Tensor, noise: NoiseSource, options: LossOptions) -> Terms:
        """The walk-back cost, a mean over the pixels as in the authors' code, whose rate goes with it.

        Metrics, cross-entropies in nats an image: cost, the mean over the walk, the selection metric;
        last, of its last step.  They measure how well the chain restores what was
        corrupted, and not the quality of its samples.
        """
        x = x.flatten(1)
        with self.autocast():
            costs = torch.stack(self._walk(x, noise))
        metrics = {"cost": costs.mean(0), "last": costs[-1]}
        return Terms(costs.sum(0) / x.shape[1], metrics)

    def _walk(self, x: Tensor, noise: NoiseSource) -> list[Tensor]:
        """Cross-entropy (B,) of every step from images x (B, C·H·W)."""
        costs, h2, seen = [], x.new_zeros(len(x), self.config.units), self.corrupt(x, noise, 0)
        for t in range(self.config.walk_back):
            logits, h2 = self.step(seen, h2, noise, t)
            costs.append((F.softplus(logits) - x * logits).sum(1))
            if t + 1 < self.config.walk_back:
                seen = self.drawn(logits, noise, t)
        return costs

    def drawn(self, logits: Tensor, noise: NoiseSource, t: int) -> Tensor:
        """The next corrupted image, of pixels drawn from x̂."""
        x = (noise.uniform(f"pixels {t}", *logits.shape) < logits.detach().sigmoid()).to(logits)
        return self.corrupt(x, noise, t + 1)

    def chain(self, x: Tensor, noise: NoiseSource) -> Iterator[Tensor]:
        """The x̂ (B, C·H·W) of step after step, without end, from pixels x (B, C·H·W) and h2 = 0."""
        h2 = x.new_zeros(x.shape[0], self.config.units)
        for t in count():
            logits, h2 = self.step(x, h2, noise, t)
            x = self.drawn(logits, noise, t)
            yield logits.sigmoid()

    def frames(self, n: int, noise: NoiseSource) -> Tensor:
        """Pixels drawn after the mean image, then the x̂ of every step of the chain."""
        x = (noise.uniform("start", n, math.prod(self.shape)) < self.mean).to(self.mean)
        steps = islice(self.chain(x, noise), self.config.chain)
        return torch.stack([x, *steps]).view(-1, n, *self.shape)


Config, Model = GSNConfig, GSN
