"""The distributions: over latents (Gaussian) and over pixels (Bernoulli, discretised logistic).

Everything is in nats and per example: a log-probability of a batch of B images is a (B,) tensor.
"""

import math
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from drawnet import kernels

LOG_2PI = math.log(2 * math.pi)


class Gaussian(NamedTuple):
    """N(mu, exp(log_sigma)²), independent over every axis but the first.   DRAW (1)-(2)"""

    mu: Tensor
    log_sigma: Tensor

    def sample(self, eps: Tensor) -> Tensor:
        """mu + sigma · eps, with eps ~ N(0, I) of mu's shape."""
        return self.mu + self.log_sigma.exp() * eps

    def log_prob(self, z: Tensor) -> Tensor:
        """log N(z; mu, sigma²) summed over the latents, (B,)."""
        eps = (z - self.mu) * (-self.log_sigma).exp()
        return -(0.5 * eps**2 + self.log_sigma + 0.5 * LOG_2PI).flatten(1).sum(1)

    def kl(self, p: "Gaussian | None" = None) -> Tensor:
        """KL(self ‖ p), (B,); p = None is N(0, I):  ½ Σ (mu² + sigma² - log sigma² - 1).   (10)-(11)

        For a learned p: Σ (log σ_p - log σ + (σ² + (mu - mu_p)²) / 2σ_p² - ½).
        """
        if p is None:
            terms = 0.5 * (self.mu**2 + torch.expm1(2 * self.log_sigma)) - self.log_sigma
        else:
            ratio = self.log_sigma - p.log_sigma
            offset = (self.mu - p.mu) * (-p.log_sigma).exp()
            terms = 0.5 * (torch.expm1(2 * ratio) + offset**2) - ratio
        return terms.flatten(1).sum(1)


def sample_and_kl(q: Gaussian, p: Gaussian | None, eps: Tensor) -> tuple[Tensor, Tensor]:
    """z ~ q by its noise eps, and KL(q ‖ p): (B, …) and (B,)."""
    fused = p is None and eps.dim() == 2 and q.mu.stride(1) == 1 == q.log_sigma.stride(1)
    if fused and q.mu.stride() == q.log_sigma.stride() and kernels.usable(*q, eps, gates=False):
        return kernels.sample_and_kl(*q, eps.contiguous())
    return q.sample(eps), q.kl(p)


def standard_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I) summed over the latents, (B,)."""
    return -0.5 * (z**2 + LOG_2PI).flatten(1).sum(1)


class Pixels(Protocol):
    """What a canvas stands for: a distribution over images x of shape (B, C, H, W), values in [0, 1]."""

    @property
    def mean(self) -> Tensor:
        """E[x], (B, C, H, W): what a film shows, and what DRAW's error image subtracts.   (3)"""

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (B,)."""

    def sample(self, uniform: Tensor) -> Tensor:
        """An image by inversion of the distribution function; uniform: (B, C, H, W) in (0, 1)."""


class Bernoulli(NamedTuple):
    """Independent binary pixels with mean σ(logits).   DRAW (9)

    With x in between, as in the paper's colour experiments, `log_prob` is minus a cross-entropy
    and no likelihood: `cross_entropy` in a run's configuration says so and no bound is claimed.
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.logits)

    def log_prob(self, x: Tensor) -> Tensor:
        """Σ x log σ(c) + (1 - x) log(1 - σ(c)) = Σ x c - softplus(c)."""
        return (x * self.logits - F.softplus(self.logits)).flatten(1).sum(1)

    def sample(self, uniform: Tensor) -> Tensor:
        return (uniform < self.mean).to(self.logits.dtype)


class Logistic(NamedTuple):
    """A logistic density integrated over each of the 256 grey levels; the end bins take the tails.

    P(x = k/255) = σ((x + ½/255 - mu)/s) - σ((x - ½/255 - mu)/s), s = exp(log_scale)
    (Kingma et al. 2016, arXiv 1606.04934).  Sums to one over the levels, so that -log P is a code
    length and bits/dim = nats / (C·H·W·ln 2) is a true one.
    """

    mu: Tensor
    log_scale: Tensor

    @property
    def mean(self) -> Tensor:
        return self.mu

    def log_prob(self, x: Tensor) -> Tensor:
        """With u, l the upper and lower argument: log σ(u) + log σ(-l) + log(1 - e^(l-u)), stable."""
        inverse = (-self.log_scale).exp()
        half = inverse / 510
        middle = (x - self.mu) * inverse
        upper, lower = middle + half, middle - half
        inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-2 * half))
        first, last = F.logsigmoid(upper), F.logsigmoid(-lower)
        terms = torch.where(x < 0.5 / 255, first, torch.where(x > 254.5 / 255, last, inner))
        return terms.flatten(1).sum(1)

    def sample(self, uniform: Tensor) -> Tensor:
        value = self.mu + self.log_scale.exp() * torch.logit(uniform, eps=1e-6)
        return (value * 255).round().clamp(0, 255) / 255


LOG_SCALE = (-7.0, 2.0)
"""Bounds on a logistic's log scale: from a hundredth of a grey level to several times the range."""


def pixels(kind: str, canvas: Tensor) -> Pixels:
    """The distribution that a canvas (B, channels, H, W) stands for.

    kind 'bernoulli' or 'cross_entropy': the canvas holds logits, C channels;
    kind 'logistic': 2C channels, mu = σ(first half) and log_scale = the second half, bounded.
    """
    if kind != "logistic":
        return Bernoulli(canvas)
    mu, raw = canvas.chunk(2, 1)
    return Logistic(torch.sigmoid(mu), (raw - 2.0).clamp(*LOG_SCALE))


def canvas_channels(kind: str, channels: int) -> int:
    """How many channels a canvas needs for images of so many."""
    return 2 * channels if kind == "logistic" else channels
