"""Towards Conceptual Compression: convolutional DRAW (Gregor et al. 2016, arXiv 1604.08772).

DRAW whose vectors are maps over a grid, whose windows are strided convolutions that see the whole
image, and whose prior is learned: what the decoder has drawn tells what is to be expected next.

    eps_t   = x - E[x | c_t-1]                             what the canvas lacks of x
    h_enc_t = ConvLSTM(x, eps_t, h_enc_t-1, h_dec_t-1)
    p(z_t | z_<t)    = N(mu_p, sigma_p²)                   from h_dec_t-1
    q(z_t | x, z_<t) = N(mu_p + sigma_p d, (sigma_p s)²)   with d and log s from h_enc_t
    h_dec_t = ConvLSTM(z_t, c_t-1, h_dec_t-1)
    c_t     = c_t-1 + upconv(h_dec_t)

    x      image (B, C, H, W), values in [0, 1]      c      canvas: parameters of the pixels
    h_enc, h_dec   states (B, K, h, w) of the two ConvLSTMs, on a grid coarser by 2ⁿ than the image
    z      latents (B, Z, h, w)                      B T    images, steps
    y      labels (B, classes), one-hot, if any: beside the inputs of both ConvLSTMs and of p
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from drawnet import probability
from drawnet.convolution import Conv, ConvLSTM, Squeeze, UpConv, check_kernel, halved, spread
from drawnet.errors import at_least
from drawnet.probability import Gaussian, Pixels
from drawnet.step import StepModel, given


@dataclass(frozen=True)
class ConvDrawConfig:
    """Sizes of a convolutional DRAW; the defaults suit 28 × 28 pixels on a small machine."""

    steps: int = 8
    """T, times that the canvas is read and added to."""
    units: int = 32
    """K, channels of each ConvLSTM."""
    latents: int = 8
    """Z, channels of a step's latents: Z·h·w numbers a step."""
    features: int = 16
    """Channels of the convolutions between pixels and grid."""
    halvings: int = 2
    """n, convolutions of stride 2 between pixels and grid; its sides are the image's over 2ⁿ."""
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
    """What convolutional DRAW carries from step to step."""

    c: Tensor
    h_enc: Tensor
    s_enc: Tensor
    h_dec: Tensor
    s_dec: Tensor
    y: Tensor


class ConvDraw(StepModel):
    """Convolutional DRAW with one stochastic layer; images of any size."""

    def __init__(self, config: ConvDrawConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape, self.steps = config, shape, config.steps
        channels, height, width = shape
        self.classes = classes = config.classes
        scale, units, kernel = 2**config.halvings, config.units, config.kernel
        grid = halved(height, width, config.halvings)  # rounded up: the canvas is a cut-out
        self.latents = (config.latents, *grid)
        deep = probability.canvas_channels(config.likelihood, channels, config.components)

        self.read = Squeeze(2 * channels, config.features, kernel, config.halvings)
        self.encoder = ConvLSTM(given(config.features, units, classes), units, kernel)
        self.q = Conv(units, 2 * config.latents, kernel)
        self.p = Conv(units + classes, 2 * config.latents, kernel)
        self.reread = Squeeze(deep, config.features, kernel, config.halvings)
        self.decoder = ConvLSTM(given(config.latents, config.features, classes), units, kernel)
        self.write = UpConv(units, deep, kernel, scale)

        self.c = nn.Parameter(torch.zeros(deep, height, width))
        self.h_enc, self.s_enc, self.h_dec, self.s_dec = (
            nn.Parameter(torch.zeros(units, *grid)) for _ in range(4)
        )
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Start with all weights small, and with p at N(0, I).

        The first steps of Adam silence z, as long as it is noise to the decoder.  It comes back
        once the way from x through z to c is learned, for which small weights need the fewest
        steps: on MNIST about 50 at a third of unit gain, more than 110 at unit gain.  Grey levels and
        colours say enough for z to stay, and learn faster from twice that (docs/log.md).
        """
        gain = 0.35 if self.config.likelihood == "bernoulli" else 0.7
        for layer in self.modules():
            if isinstance(layer, Conv):
                layer.weight.mul_(gain)
        self.p.weight.zero_()

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
        eps = probability.error_image(x, self.likelihood(state))
        inputs = given(self.read(x, eps), state.h_dec, spread(state.y, state.h_dec))
        h_enc, s_enc = self.encoder(inputs, state.h_enc, state.s_enc)
        d, log_s = self.q(h_enc).chunk(2, 1)
        p = self.prior(state)
        q = Gaussian(p.sample(d), p.log_sigma + log_s)
        return q, state._replace(h_enc=h_enc, s_enc=s_enc)

    def prior(self, state: State) -> Gaussian:
        inputs = given(state.h_dec, spread(state.y, state.h_dec))
        mu, log_sigma = self.p(*inputs).chunk(2, 1)
        return Gaussian(mu, log_sigma)

    def advance(self, z: Tensor, state: State) -> State:
        inputs = given(z, self.reread(state.c), spread(state.y, z))
        h_dec, s_dec = self.decoder(inputs, state.h_dec, state.s_dec)
        _, height, width = self.shape
        c = state.c + self.write(h_dec)[..., :height, :width]
        return state._replace(c=c, h_dec=h_dec, s_dec=s_dec)

    def likelihood(self, state: State) -> Pixels:
        return probability.pixels(self.config.likelihood, state.c, self.config.components)


Config, Model = ConvDrawConfig, ConvDraw
