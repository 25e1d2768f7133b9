"""DRAW between convolutions (after Gregor et al. 2015, arXiv 1502.04623).

DRAW without attention (17)-(18), whose encoder reads the whole image through strided convolutions,
and whose decoder writes the whole canvas through up-convolutions.  Between them are DRAW's LSTMs and
vector of latents: convolutions are the same at every place, the vectors carry what is where.

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

import torch
from torch import Tensor

from drawnet.models.canvas import CanvasModel, ConvolutionalConfig, State
from drawnet.models.sequential import drop_empty
from drawnet.nn.convolution import ConvDecoder, ConvEncoder, halved
from drawnet.nn.distributions import Gaussian
from drawnet.nn.recurrent import LSTM, Linear


@dataclass(frozen=True)
class StemDrawConfig(ConvolutionalConfig):
    """Sizes of a DRAW between convolutions; the defaults suit 28 × 28 pixels on a small machine."""


class StemDraw(CanvasModel):
    """DRAW between convolutions; images of any size."""

    def __init__(self, config: StemDrawConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        self.add_first_states()
        convolutions, units = (config.features, config.kernel, config.num_downsamples), config.units

        self.read = ConvEncoder(2 * shape[0], *convolutions)
        glimpse = config.features * math.prod(halved(*shape[1:], config.num_downsamples))
        self.encoder = LSTM(drop_empty(glimpse, units, config.classes), units)
        self.q = Linear(units, 2 * config.latents)
        self.decoder = LSTM(drop_empty(config.latents, config.classes), units)
        self.write = ConvDecoder(units, *convolutions, self.canvas_shape)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Start with q near N(0, I), so that the first steps are not spent on silencing it."""
        self.q.weight.mul_(0.3)

    def infer(self, x: Tensor, state: State) -> tuple[Gaussian, State]:
        x_hat = self.error_image(x, self.likelihood(state))
        r = self.read(x, x_hat).flatten(1)
        h_enc, s_enc = self.encoder(drop_empty(r, state.h_dec, state.y), state.h_enc, state.s_enc)
        mu, log_sigma = self.q(h_enc).chunk(2, 1)
        return Gaussian(mu, log_sigma), state._replace(h_enc=h_enc, s_enc=s_enc)

    def prior(self, state: State) -> None:
        """N(0, I) at every step."""

    def advance(self, z: Tensor, state: State) -> State:
        h_dec, s_dec = self.decoder(drop_empty(z, state.y), state.h_dec, state.s_dec)
        return state._replace(c=state.c + self.write(h_dec), h_dec=h_dec, s_dec=s_dec)


Config, Model = StemDrawConfig, StemDraw
