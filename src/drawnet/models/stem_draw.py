"""DRAW with a convolutional eye and hand (after Gregor et al. 2015, arXiv 1502.04623).

DRAW without attention (17)-(18), whose encoder is shown what strided convolutions make of the whole
image, and whose decoder writes the whole canvas through up-convolutions.  Between the two stand
DRAW's own LSTMs and vector of latents: the convolutions see alike at every place, the vectors what
is where.

    x_hat_t = x - E[x | c_t-1]                             what the canvas lacks of x
    h_enc_t = LSTM(h_enc_t-1, [conv(x, x_hat_t), h_dec_t-1])
    q(z_t | x, z_<t) = N(mu, sigma²)                       from h_enc_t; p(z_t) = N(0, I)
    h_dec_t = LSTM(h_dec_t-1, z_t)
    c_t     = c_t-1 + upconv(h_dec_t)

    x      image (B, C, H, W), values in [0, 1]      c      canvas: parameters of the pixels
    h_enc, h_dec   outputs (B, units) of the LSTMs   z      latents (B, Z)
    y      labels (B, classes), one-hot, if any      B T    images, steps
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from drawnet import probability
from drawnet.convolution import Squeeze, Stretch, check_kernel, halved
from drawnet.errors import at_least
from drawnet.probability import Gaussian, Pixels
from drawnet.recurrence import LSTM, Linear
from drawnet.step import StepModel, given


@dataclass(frozen=True)
class StemDrawConfig:
    """Sizes of a DRAW between convolutions; the defaults suit 28 × 28 pixels on a small machine."""

    steps: int = 8
    """T, times that the canvas is read and added to."""
    units: int = 256
    """Units of each LSTM."""
    latents: int = 100
    """Z, latents a step."""
    features: int = 16
    """Channels of the convolutions on either side."""
    halvings: int = 2
    """n, convolutions of stride 2 on either side: the LSTMs see a grid of the image's sides / 2ⁿ."""
    kernel: int = 3
    """Side of every convolution, odd."""
    likelihood: Literal["bernoulli", "logistic", "mixture", "cross_entropy"] = "bernoulli"
    """Binary pixels; 256 grey levels by a logistic or a mixture; or a cost on intensities."""
    components: int = probability.COMPONENTS
    """Logistics of a mixture."""
    classes: int = 0
    """Classes of images that the model is told; 0: none."""

    def __post_init__(self) -> None:
        at_least(self, 1, "steps", "units", "latents", "features", "halvings", "components")
        at_least(self, 0, "classes")
        check_kernel(self.kernel)


class State(NamedTuple):
    """What is carried from step to step: the canvas, and output and cell of each LSTM, labels."""

    c: Tensor
    h_enc: Tensor
    s_enc: Tensor
    h_dec: Tensor
    s_dec: Tensor
    y: Tensor


class StemDraw(StepModel):
    """DRAW between convolutions; images of any size."""

    def __init__(self, config: StemDrawConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape, self.classes = config, shape, config.classes
        self.steps, self.latents = config.steps, (config.latents,)
        channels, height, width = shape
        deep = probability.canvas_channels(config.likelihood, channels, config.components)
        convolutions, units = (config.features, config.kernel, config.halvings), config.units

        self.read = Squeeze(2 * channels, *convolutions)
        glimpse = config.features * math.prod(halved(height, width, config.halvings))
        self.encoder = LSTM(given(glimpse, units, config.classes), units)
        self.q = Linear(units, 2 * config.latents)
        self.decoder = LSTM(given(config.latents, config.classes), units)
        self.write = Stretch(units, *convolutions, (deep, height, width))

        self.c = nn.Parameter(torch.zeros(deep, height, width))
        self.h_enc, self.s_enc, self.h_dec, self.s_dec = (
            nn.Parameter(torch.zeros(units)) for _ in range(4)
        )
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Start with q near N(0, I), so that the first steps are not spent on silencing it."""
        self.q.weight.mul_(0.3)

    @torch.no_grad()
    def prepare(self, mean: Tensor) -> None:
        """Start the canvas at the mean training image (C, H, W) instead of at grey."""
        config = self.config
        self.c.copy_(probability.first_canvas(config.likelihood, mean, config.components))

    def start(self, y: Tensor) -> State:
        """Learned canvas and states, the same for every image."""
        learned = (self.c, self.h_enc, self.s_enc, self.h_dec, self.s_dec)
        return State._make([*(p.expand(len(y), *p.shape) for p in learned), y])

    def infer(self, x: Tensor, state: State) -> tuple[Gaussian, State]:
        x_hat = probability.error_image(x, self.likelihood(state))
        r = self.read(x, x_hat).flatten(1)
        h_enc, s_enc = self.encoder(given(r, state.h_dec, state.y), state.h_enc, state.s_enc)
        mu, log_sigma = self.q(h_enc).chunk(2, 1)
        return Gaussian(mu, log_sigma), state._replace(h_enc=h_enc, s_enc=s_enc)

    def prior(self, state: State) -> None:
        """N(0, I) at every step."""

    def advance(self, z: Tensor, state: State) -> State:
        h_dec, s_dec = self.decoder(given(z, state.y), state.h_dec, state.s_dec)
        return state._replace(c=state.c + self.write(h_dec), h_dec=h_dec, s_dec=s_dec)

    def likelihood(self, state: State) -> Pixels:
        return probability.pixels(self.config.likelihood, state.c, self.config.components)


Config, Model = StemDrawConfig, StemDraw
