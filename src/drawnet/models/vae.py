"""The variational auto-encoder (Kingma & Welling 2014, arXiv 1312.6114; Rezende et al. 2014, 1401.4082).

A step model of one step: one look at the image, one vector of latents, one canvas.

    h       = tanh(W … tanh(W x + b) … + b)      from 2x - 1, pixels in [-1, 1]
    q(z|x)  = N(mu, sigma²)                      mu and log sigma linear in h; p(z) = N(0, I)
    c       = c_0 + W tanh(W … tanh(W z + b) … + b)
    -log p(x) <= E_q[-log p(x | c)] + KL(q(z|x) ‖ p(z))

    x      image (B, C, H, W), values in [0, 1]      c      canvas: parameters of the pixels
    z      latents (B, Z)                            B      images
    y      labels (B, classes), one-hot, if any: a further input of both networks
"""

import itertools
import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from drawnet.errors import schema
from drawnet.errors.schema import Ge, Le, NonNegativeInt, PositiveInt
from drawnet.models.sequential import StepModel
from drawnet.nn import distributions
from drawnet.nn.distributions import Gaussian, PixelKind, Pixels
from drawnet.nn.recurrent import Linear


@dataclass(frozen=True)
class VAEConfig:
    """Sizes of a variational auto-encoder; the defaults are Kingma & Welling's for MNIST."""

    units: PositiveInt = 500
    """Units of a hidden layer."""
    layers: Annotated[int, Ge(1), Le(100)] = 1
    """Hidden layers of the encoder, and of the decoder."""
    latents: PositiveInt = 20
    """Z, numbers that stand for an image (the paper: 3, 5, 10, 20 or 200)."""
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
    """The canvas, before the step c_0 and after it what z stands for; labels."""

    c: Tensor
    y: Tensor


def hidden(inputs: int, units: int, layers: int) -> nn.Sequential:
    """So many layers of tanh units: (B, inputs) -> (B, units)."""
    pairs = itertools.pairwise([inputs] + [units] * layers)
    return nn.Sequential(*(part for a, b in pairs for part in (Linear(a, b), nn.Tanh())))


class VAE(StepModel):
    """A variational auto-encoder of fully connected layers."""

    def __init__(self, config: VAEConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape, self.classes = config, shape, config.classes
        self.steps, self.latents, units = 1, (config.latents,), config.units
        channels = distributions.canvas_channels(config.likelihood, shape[0], config.components)
        self.canvas_shape = (channels, *shape[1:])

        self.encoder = hidden(math.prod(shape) + config.classes, units, config.layers)
        self.q = Linear(units, 2 * config.latents)
        self.decoder = hidden(config.latents + config.classes, units, config.layers)
        self.write = Linear(units, math.prod(self.canvas_shape))  # its bias is c_0

    @torch.no_grad()
    def init_from_mean(self, mean: Tensor) -> None:
        """Start the canvas at the mean training image (C, H, W) instead of at grey."""
        config = self.config
        canvas = distributions.first_canvas(config.likelihood, mean, config.components)
        self.write.bias.copy_(canvas.flatten())

    def start(self, y: Tensor) -> State:
        """The canvas c_0, the same for every image."""
        c = self.write.bias.view(self.canvas_shape)
        return State(c.expand(y.shape[0], *self.canvas_shape), y)

    def infer(self, x: Tensor, state: State) -> tuple[Gaussian, State]:
        h = self.encoder(torch.cat((2 * x.flatten(1) - 1, state.y), 1))
        mu, log_sigma = self.q(h).chunk(2, 1)
        return Gaussian(mu, log_sigma), state

    def prior(self, state: State) -> None:
        """N(0, I)."""

    def advance(self, z: Tensor, state: State) -> State:
        h = self.decoder(torch.cat((z, state.y), 1))
        return state._replace(c=self.write(h).view(-1, *self.canvas_shape))

    def likelihood(self, state: State) -> Pixels:
        return distributions.pixels(self.config.likelihood, state.c, self.config.components)


Config, Model = VAEConfig, VAE
