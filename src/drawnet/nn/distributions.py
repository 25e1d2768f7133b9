"""The distributions: over latents (Gaussian) and over pixels (Bernoulli, logistic, their mixture).

Everything is in nats and per example: a log-probability of a batch of B images is a (B,) tensor.
"""

import math
from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


class Gaussian(NamedTuple):
    """N(mu, exp(log_sigma)²), independent over every axis but the first.   DRAW (1)-(2)"""

    mu: Tensor
    log_sigma: Tensor

    def sample(self, eps: Tensor) -> Tensor:
        """mu + sigma · eps, with eps ~ N(0, I) of mu's shape.   (6)"""
        return self.mu + self.log_sigma.exp() * eps

    def standardise(self, z: Tensor) -> Tensor:
        """The eps of which `sample` makes z: (z - mu) / sigma."""
        return (z - self.mu) * (-self.log_sigma).exp()

    def log_prob(self, z: Tensor) -> Tensor:
        """log N(z; mu, sigma²) summed over the latents, (B,)."""
        eps = self.standardise(z)
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


def relative_posterior(d: Gaussian, p: Gaussian | None) -> Gaussian:
    """q = N(mu_p + sigma_p d, (sigma_p s)²), N(d, s²) being q in the prior's units; p None: N(0, I)."""
    return d if p is None else Gaussian(p.sample(d.mu), p.log_sigma + d.log_sigma)


def sample_and_kl(q: Gaussian, p: Gaussian | None, eps: Tensor) -> tuple[Tensor, Tensor]:
    """z ~ q by its noise eps, and KL(q ‖ p): (B, …) and (B,)."""
    return q.sample(eps), q.kl(p)


def error_image(x: Tensor, p: "Pixels") -> Tensor:
    """x - E[x] under p, (B, C, H, W): what the canvas lacks; x - σ(c) for Bernoulli pixels.   (3)"""
    return x - p.mean


def standard_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I) summed over the latents, (B,)."""
    return -0.5 * (z**2 + LOG_2PI).flatten(1).sum(1)


def spherical(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Interpolate from a to b along the great circle: (T, *latents) twice and (n,) -> (T, n, *latents).

    (sin((1 - s) θ) a + sin(s θ) b) / sin θ, θ the angle between them (Shoemake 1985).  A straight
    line would pass through points nearer to the origin than typical noise.
    """
    cosine = (a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-12)
    theta = torch.arccos(cosine.double().clamp(-1, 1)).clamp_min(1e-6)
    s = share.double().view(-1, *[1] * (a.dim() - 1))
    one, other = (torch.sin(part * theta) / torch.sin(theta) for part in (1 - s, s))
    return (one * a[:, None] + other * b[:, None]).to(a)


class Pixels(Protocol):
    """What a canvas stands for: a distribution over images x of shape (B, C, H, W), values in [0, 1]."""

    @property
    def mean(self) -> Tensor:
        """E[x], (B, C, H, W): what pictures of the canvas show."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (B,)."""

    def log_prob_map(self, x: Tensor) -> Tensor:
        """log p(x) place by place, nats, (B, H, W): all channels of a pixel together."""

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

    def log_prob_map(self, x: Tensor) -> Tensor:
        return (x * self.logits - F.softplus(self.logits)).sum(1)

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
        return self.terms(x).flatten(1).sum(1)

    def log_prob_map(self, x: Tensor) -> Tensor:
        return self.terms(x).sum(1)

    def terms(self, x: Tensor) -> Tensor:
        """log P of every value, of x's shape.

        With u, l the upper and lower argument: log σ(u) + log σ(-l) + log(1 - e^(l-u)), stable.
        """
        inverse = (-self.log_scale).exp()
        half = inverse / 510
        middle = (x - self.mu) * inverse
        upper, lower = middle + half, middle - half
        inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-2 * half))
        first, last = F.logsigmoid(upper), F.logsigmoid(-lower)
        return torch.where(x < 0.5 / 255, first, torch.where(x > 254.5 / 255, last, inner))

    def sample(self, uniform: Tensor) -> Tensor:
        value = self.mu + self.log_scale.exp() * torch.logit(uniform, eps=1e-6)
        return (value * 255).round().clamp(0, 255) / 255


class CoupledLogistic(NamedTuple):
    """Discretised logistics of which a pixel's channel sees those before it (Salimans et al. 2017).

    P(x) = Π_c P(x_c | x_<c), each a `Logistic` of mean mu_c + Σ_d<c a_cd (x_d - mu_d): what red has
    more than expected moves green, and both move blue, whose textures are nearly the same.  Sums to
    one over the 256^C values of a pixel; pixels are independent of one another.
    """

    logistic: Logistic
    coupling: Tensor
    """a, (B, C(C-1)/2, H, W): a_10, a_20, a_21, …"""

    @property
    def mean(self) -> Tensor:
        """mu; E[x] up to what the ends of the range cut off."""
        return self.logistic.mean

    def conditional(self, x: Tensor, channel: int) -> Logistic:
        """The distribution of a channel given those before it in x (B, C, H, W): (B, H, W) each."""
        mu, log_scale = (part[:, channel] for part in self.logistic)
        first = channel * (channel - 1) // 2
        for d in range(channel):
            excess = x[:, d] - self.logistic.mu[:, d]
            mu = mu + self.coupling[:, first + d] * excess
        return Logistic(mu, log_scale)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.log_prob_map(x).flatten(1).sum(1)

    def log_prob_map(self, x: Tensor) -> Tensor:
        channels = [self.conditional(x, c) for c in range(x.shape[1])]
        mu, log_scale = (torch.stack(part, 1) for part in zip(*channels, strict=True))
        return Logistic(mu, log_scale).log_prob_map(x)

    def sample(self, uniform: Tensor) -> Tensor:
        x = torch.zeros_like(self.mean)
        for c in range(x.shape[1]):
            x[:, c] = self.conditional(x, c).sample(uniform[:, c])
        return x


class LogisticMixture(NamedTuple):
    """A mixture of K discretised logistics a pixel (Salimans et al. 2017, arXiv 1701.05517).

    P(x) = Σ_k π_k Π_c P_k(x_c), π = softmax(logits): the channels of a pixel share their component,
    which lets colours vary together, and are independent given it (PixelCNN++ also couples them, as
    `CoupledLogistic` does).  Sums to one over the 256^C values of a pixel.
    """

    logits: Tensor
    """(B, K, H, W)"""
    logistics: Logistic
    """mu and log_scale, (B, K, C, H, W) each."""

    @property
    def mean(self) -> Tensor:
        return (self.logits.softmax(1)[:, :, None] * self.logistics.mean).sum(1)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.log_prob_map(x).flatten(1).sum(1)

    def log_prob_map(self, x: Tensor) -> Tensor:
        terms = self.logistics.terms(x[:, None]).sum(2) + self.logits.log_softmax(1)
        return terms.logsumexp(1)

    def sample(self, uniform: Tensor) -> Tensor:
        """By inversion within a component k, chosen by the first channel's uniform u.

        k is the last with π_1 + … + π_k-1 <= u.  Where in its share u lies is uniform again, and
        serves the first channel's inversion.
        """
        share = self.logits.softmax(1)
        ends = share.cumsum(1)
        k = (uniform[:, :1] >= ends[:, :-1]).sum(1, keepdim=True)
        end, width = ends.gather(1, k), share.gather(1, k).clamp_min(1e-12)
        rest = (1 - (end - uniform[:, :1]) / width).clamp(0, 1)
        place = k[:, :, None].expand(-1, -1, uniform.shape[1], -1, -1)
        chosen = (part.gather(1, place)[:, 0] for part in self.logistics)
        return Logistic(*chosen).sample(torch.cat((rest, uniform[:, 1:]), 1))


def cross_entropy(x: Tensor, p: Pixels) -> Tensor:
    """-Σ x log m + (1 - x) log(1 - m), nats, (B,), with m the mean of p: (9) on intensities.

    What the paper minimises for colour, and no likelihood: intensities are no probabilities.
    """
    m = p.mean.clamp(1e-6, 1 - 1e-6)
    return -(x * m.log() + (1 - x) * torch.log1p(-m)).flatten(1).sum(1)


LOG_SCALE = (-7.0, 2.0)
"""Bounds on a logistic's log scale: from a hundredth of a grey level to several times the range."""
COUPLING = (-2.0, 2.0)
"""Bounds on how far a channel moves another's mean, by its own excess."""
COMPONENTS = 5
"""K, logistics of a mixture."""


PixelKind = Literal["bernoulli", "logistic", "coupled", "mixture", "cross_entropy"]


def pixels(kind: str, canvas: Tensor, components: int = COMPONENTS) -> Pixels:
    """The distribution that a canvas (B, channels, H, W) stands for.

    kind 'bernoulli' or 'cross_entropy': the canvas holds logits, C channels;
    kind 'logistic': 2C channels, mu = σ(first half) and log_scale = the second half, bounded;
    kind 'coupled': those, and C(C-1)/2 for the coupling, bounded; on 0 a channel follows the last;
    kind 'mixture': K components; KC channels for mu, KC for log_scale, K for the components' logits.
    On a canvas of one value the components' means stand apart by one in their logits.
    """
    if kind == "logistic":
        return _logistic(*canvas.chunk(2, 1))
    if kind == "coupled":
        channels = channels_of(canvas.shape[1])
        mu, raw, coupling = canvas.split([channels, channels, canvas.shape[1] - 2 * channels], 1)
        last = [float(d == c - 1) for c in range(channels) for d in range(c)]
        follows = coupling.new_tensor(last)[:, None, None]
        return CoupledLogistic(_logistic(mu, raw), (coupling + follows).clamp(*COUPLING))
    if kind == "mixture":
        channels = (canvas.shape[1] // components - 1) // 2
        *maps, logits = canvas.split([channels * components] * 2 + [components], 1)
        mu, raw = (part.unflatten(1, (components, channels)) for part in maps)
        apart = torch.arange(components, dtype=mu.dtype, device=mu.device) - (components - 1) / 2
        return LogisticMixture(logits, _logistic(mu + apart[:, None, None, None], raw))
    return Bernoulli(canvas)


def _logistic(mu: Tensor, raw: Tensor) -> Logistic:
    return Logistic(torch.sigmoid(mu), (raw - 2.0).clamp(*LOG_SCALE))


def canvas_channels(kind: str, channels: int, components: int = COMPONENTS) -> int:
    """How many channels a canvas needs for images of so many."""
    if kind == "mixture":
        return components * (2 * channels + 1)
    if kind == "coupled":
        return 2 * channels + channels * (channels - 1) // 2
    return 2 * channels if kind == "logistic" else channels


def channels_of(width: int) -> int:
    """How many channels the images of a 'coupled' canvas have: C, of whose own it has 2C + C(C-1)/2."""
    return (math.isqrt(9 + 8 * width) - 3) // 2


def first_canvas(kind: str, mean: Tensor, components: int = COMPONENTS) -> Tensor:
    """A canvas (channels, H, W) whose distribution is about the mean image (C, H, W) and wide."""
    copies = components if kind == "mixture" else 1
    deep = canvas_channels(kind, len(mean), components)
    canvas = mean.new_zeros(deep, *mean.shape[1:])
    canvas[: copies * len(mean)] = torch.logit(mean, eps=0.01).repeat(copies, 1, 1)
    return canvas


PARZEN_ROWS = 500
"""Images whose distances to all the samples are in memory at a time."""


def log_density(x: Tensor, samples: Tensor, *sigmas: float) -> Tensor:
    """log p(x) for every σ, (len(sigmas), n), nats; x (n, …) and samples (m, …) in [0, 1].

    In float64, which Apple's devices (mps) have not: there in float32.
    """
    wide = torch.float32 if samples.device.type == "mps" else torch.float64
    s = samples.flatten(1).to(wide)
    (m, d), lengths = s.shape, (s**2).sum(1)
    constant = {v: math.log(m) + d * math.log(math.sqrt(2 * math.pi) * v) for v in sigmas}
    found = []
    for part in x.flatten(1).to(wide).split(PARZEN_ROWS):
        squares = (part**2).sum(1)[:, None] - 2 * part @ s.T + lengths
        log_sums = [(-squares / (2 * v**2)).logsumexp(1) - constant[v] for v in sigmas]
        found.append(torch.stack(log_sums))
    return torch.cat(found, 1)
