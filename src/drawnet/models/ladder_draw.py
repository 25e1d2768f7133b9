"""Convolutional DRAW with latents at three scales, a ladder within every step.

After convolutional DRAW (Gregor et al. 2016, arXiv 1604.08772), whose dense latents say what maps
cannot agree upon at a distance, and ladder networks (Sønderby et al. 2016, arXiv 1602.02282).  States
are residual and bounded, without an LSTM; a step draws at all scales, given the states before it.

    x̂_t      = x - E[x | c_t-1]                            what the canvas lacks of x
    r_f      = silu(conv(x, x̂_t))                          on a grid coarser by 2 than the image
    r_m      = silu(conv(r_f)),  r_g = silu(W r_m)         by 4; a vector
    p(z_t | z_<t)    = N(mu_p, sigma_p²)                   of every scale from its own state
    q(z_t | x, z_<t) = N(mu_p + sigma_p d, (sigma_p s)²)   with d and log s from its r and state
    m_t      = tanh(m_t-1 + conv(silu((1 + a) conv(m_t-1, z_m) + b)))      a, b linear in z_g
    f_t      = tanh(f_t-1 + conv(silu(conv(f_t-1, z_f, up(m_t)))))          silu(h) = h σ(h)
    c_t      = c_t-1 + upconv(f_t)

    x      image (B, C, H, W), values in [0, 1]      c      canvas: parameters of the pixels
    f, m   states (B, K, H/2, W/2) and (B, K, H/4, W/4), sides rounded up
    z      latents (B, Z): a vector z_g, maps z_m and z_f, side by side
    y      labels (B, classes), one-hot, if any: further inputs beside z_g and of its p
    B      images
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from drawnet.errors import schema
from drawnet.errors.schema import NonNegativeInt, PositiveInt
from drawnet.models.base import Kernel
from drawnet.models.sequential import StepModel, drop_empty
from drawnet.nn import distributions
from drawnet.nn.convolution import Conv, UpConv, halved
from drawnet.nn.distributions import Gaussian, PixelKind, Pixels
from drawnet.nn.recurrent import Linear

LOG_SIGMA = 4.0
"""Bound on log sigma_p and on log s, either way."""


@dataclass(frozen=True)
class LadderDrawConfig:
    """Sizes of a ladder; the defaults are for 28 × 28 pixels."""

    steps: PositiveInt = 8
    """T, times that the canvas is read and added to."""
    features: PositiveInt = 64
    """K, channels of the states and of the convolutions."""
    units: PositiveInt = 256
    """Units of r_g, what the encoder says of the whole image."""
    dense: PositiveInt = 16
    """Latents of the vector z_g, a step."""
    coarse: PositiveInt = 4
    """Channels of the maps z_m, a step."""
    fine: PositiveInt = 1
    """Channels of the maps z_f, a step."""
    kernel: Kernel = 3
    """Side of every convolution, odd."""
    likelihood: PixelKind = "bernoulli"
    """Binary pixels; 256 grey levels by a logistic, by logistics of coupled channels or by a mixture;
    or a cost on intensities."""
    components: PositiveInt = distributions.COMPONENTS
    """Logistics of a mixture."""
    classes: NonNegativeInt = 0
    """Classes of images that the model is conditioned on; 0: none."""

    def __post_init__(self) -> None:
        schema.check(self, "--model.")


class State(NamedTuple):
    """The canvas, the decoder's maps, labels."""

    c: Tensor
    m: Tensor
    f: Tensor
    y: Tensor


class LadderDraw(StepModel):
    """A ladder of three scales; images of any size."""

    def __init__(self, config: LadderDrawConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape, self.classes = config, shape, config.classes
        self.steps, k, kernel = config.steps, config.features, config.kernel
        channels = distributions.canvas_channels(config.likelihood, shape[0], config.components)
        fine, coarse = halved(*shape[1:], 1), halved(*shape[1:], 2)
        self.scales = ((config.dense,), (config.coarse, *coarse), (config.fine, *fine))
        """Shapes of z_g, z_m and z_f."""
        self.latents = (sum(math.prod(scale) for scale in self.scales),)

        self.c = nn.Parameter(torch.zeros(channels, *shape[1:]))
        self.m = nn.Parameter(torch.zeros(k, *coarse))
        self.f = nn.Parameter(torch.zeros(k, *fine))

        self.read_f = Conv(2 * shape[0], k, kernel, 2)
        self.read_m = Conv(k, k, kernel, 2)
        self.read_g = Linear(k * math.prod(coarse), config.units)
        self.q_g = Linear(config.units + k + config.classes, 2 * config.dense)
        self.q_m = Conv(2 * k, 2 * config.coarse, kernel)
        self.q_f = Conv(2 * k, 2 * config.fine, kernel)

        self.p_g = Linear(k + config.classes, 2 * config.dense)
        self.p_m = Conv(k, 2 * config.coarse, kernel)
        self.p_f = Conv(k, 2 * config.fine, kernel)

        self.modulate = Linear(config.dense + config.classes, 2 * k)
        self.hidden_m = Conv(k + config.coarse, k, kernel)
        self.add_m = Conv(k, k, kernel)
        self.up = UpConv(k, k, kernel, 2)
        self.hidden_f = Conv(2 * k + config.fine, k, kernel)
        self.add_f = Conv(k, k, kernel)
        self.write = UpConv(k, channels, kernel, 2)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Start with p at N(0, I), q near it, and small additions to states and canvas."""
        for layer in (self.p_g, self.p_m, self.p_f):
            layer.weight.zero_()
        for layer in (self.q_g, self.q_m, self.q_f, self.add_m, self.add_f, self.write):
            layer.weight.mul_(0.3)

    @torch.no_grad()
    def init_from_mean(self, mean: Tensor) -> None:
        """Start the canvas at the mean training image (C, H, W) instead of at grey."""
        config = self.config
        self.c.copy_(distributions.first_canvas(config.likelihood, mean, config.components))

    def start(self, y: Tensor) -> State:
        """Learned c_0, m_0 and f_0, the same for every image."""
        c, m, f = (p.expand(y.shape[0], *p.shape) for p in (self.c, self.m, self.f))
        return State(c, m, f, y)

    def infer(self, x: Tensor, state: State) -> tuple[Gaussian, State]:
        x_hat = self.error_image(x, self.likelihood(state))
        r_f = silu(self.read_f(x, x_hat))
        r_m = silu(self.read_m(r_f))
        r_g = silu(self.read_g(r_m.flatten(1)))
        found = (
            self.q_g(*drop_empty(r_g, mean(state.m), state.y)),
            self.q_m(r_m, state.m),
            self.q_f(r_f, state.f),
        )
        return self.relative_posterior(side_by_side(*found), self.prior(state)), state

    def prior(self, state: State) -> Gaussian:
        whole = drop_empty(mean(state.m), state.y)
        return side_by_side(self.p_g(*whole), self.p_m(state.m), self.p_f(state.f))

    def advance(self, z: Tensor, state: State) -> State:
        parts = z.split([math.prod(scale) for scale in self.scales], 1)
        z_g, z_m, z_f = (
            part.view(-1, *scale) for part, scale in zip(parts, self.scales, strict=True)
        )
        a, b = self.modulate(*drop_empty(z_g, state.y))[:, :, None, None].chunk(2, 1)
        m = (state.m + self.add_m(silu((1 + a) * self.hidden_m(state.m, z_m) + b))).tanh()
        height, width = self.scales[2][1:]
        above = self.up(m)[..., :height, :width]
        f = (state.f + self.add_f(silu(self.hidden_f(state.f, z_f, above)))).tanh()
        c = state.c + self.write(f)[..., : self.shape[1], : self.shape[2]]
        return state._replace(c=c, m=m, f=f)

    def likelihood(self, state: State) -> Pixels:
        return distributions.pixels(self.config.likelihood, state.c, self.config.components)


def side_by_side(*scales: Tensor) -> Gaussian:
    """The scales' mu and log sigma, each the halves of (B, 2 · channels, …), as (B, Z) of all."""
    halves = [scale.chunk(2, 1) for scale in scales]
    mu, log_sigma = (
        torch.cat([h.flatten(1) for h in half], 1) for half in zip(*halves, strict=True)
    )
    return Gaussian(mu, LOG_SIGMA * (log_sigma / LOG_SIGMA).tanh())


def silu(h: Tensor) -> Tensor:
    """h σ(h); of operations that compression has in exact form, as `mean`."""
    return h * h.sigmoid()


def mean(h: Tensor) -> Tensor:
    """Means over the grid, (B, K, H, W) -> (B, K)."""
    return h.sum((2, 3)) / (h.shape[2] * h.shape[3])


Config, Model = LadderDrawConfig, LadderDraw
