"""Towards Conceptual Compression: convolutional DRAW (Gregor et al. 2016, arXiv 1604.08772).

DRAW whose vectors are maps over a grid, whose windows are strided convolutions that see the whole
image, and whose prior is learned: N(mu_p, sigma_p²) predicted from h_dec_t-1.

    eps_t   = x - E[x | c_t-1]                             what the canvas lacks of x
    h_enc_t = ConvLSTM(x, eps_t, h_enc_t-1, h_dec_t-1)
    p(z_t | z_<t)    = N(mu_p, sigma_p²)                   from h_dec_t-1
    q(z_t | x, z_<t) = N(mu_p + sigma_p d, (sigma_p s)²)   with d and log s from h_enc_t
    h_dec_t = ConvLSTM(z_t, c_t-1, h_dec_t-1)
    c_t     = c_t-1 + upconv(h_dec_t)

    x      image (B, C, H, W), values in [0, 1]      c      canvas: parameters of the pixels
    h_enc, h_dec   states (B, K, h, w) of the two ConvLSTMs, on a grid coarser by 2ⁿ than the image
    z      latents (B, Z, h, w)                      B T    images, steps
    y      labels (B, classes), one-hot, if any: further inputs of both ConvLSTMs and of p
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from drawnet.errors.schema import PositiveInt
from drawnet.models.canvas import CanvasModel, ConvolutionalConfig, State
from drawnet.models.sequential import drop_empty
from drawnet.nn.convolution import Conv, ConvEncoder, ConvLSTM, UpConv, broadcast_spatial, halved
from drawnet.nn.distributions import Gaussian


@dataclass(frozen=True)
class ConvDrawConfig(ConvolutionalConfig):
    """Sizes of a convolutional DRAW; the defaults suit 28 × 28 pixels on a small machine."""

    units: PositiveInt = 32
    """K, channels of each ConvLSTM."""
    latents: PositiveInt = 8
    """Z, channels of a step's latents: Z·h·w numbers a step."""


class ConvDraw(CanvasModel):
    """Convolutional DRAW with one stochastic layer; images of any size."""

    def __init__(self, config: ConvDrawConfig, shape: tuple[int, int, int]) -> None:
        grid = halved(*shape[1:], config.num_downsamples)  # rounded up: the canvas is a cut-out
        super().__init__(config, shape, *grid)
        self.add_first_states()
        units, kernel, classes = config.units, config.kernel, config.classes

        self.read = ConvEncoder(2 * shape[0], config.features, kernel, config.num_downsamples)
        self.encoder = ConvLSTM(drop_empty(config.features, units, classes), units, kernel)
        self.q = Conv(units, 2 * config.latents, kernel)
        self.p = Conv(units + classes, 2 * config.latents, kernel)
        self.reread = ConvEncoder(
            self.canvas_shape[0], config.features, kernel, config.num_downsamples
        )
        self.decoder = ConvLSTM(drop_empty(config.latents, config.features, classes), units, kernel)
        self.write = UpConv(units, self.canvas_shape[0], kernel, 2**config.num_downsamples)
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

    def infer(self, x: Tensor, state: State) -> tuple[Gaussian, State]:
        eps = self.error_image(x, self.likelihood(state))
        inputs = drop_empty(self.read(x, eps), state.h_dec, broadcast_spatial(state.y, state.h_dec))
        h_enc, s_enc = self.encoder(inputs, state.h_enc, state.s_enc)
        d = Gaussian(*self.q(h_enc).chunk(2, 1))
        q = self.relative_posterior(d, self.prior(state))
        return q, state._replace(h_enc=h_enc, s_enc=s_enc)

    def prior(self, state: State) -> Gaussian:
        inputs = drop_empty(state.h_dec, broadcast_spatial(state.y, state.h_dec))
        mu, log_sigma = self.p(*inputs).chunk(2, 1)
        return Gaussian(mu, log_sigma)

    def advance(self, z: Tensor, state: State) -> State:
        inputs = drop_empty(z, self.reread(state.c), broadcast_spatial(state.y, z))
        h_dec, s_dec = self.decoder(inputs, state.h_dec, state.s_dec)
        _, height, width = self.shape
        c = state.c + self.write(h_dec)[..., :height, :width]
        return state._replace(c=c, h_dec=h_dec, s_dec=s_dec)


Config, Model = ConvDrawConfig, ConvDraw
