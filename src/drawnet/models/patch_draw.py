"""DRAW with convolutions in its windows (after Gregor et al. 2015, arXiv 1502.04623).

DRAW with two large windows: the glimpse passes through strided convolutions to the encoder, and the
patch comes through up-convolutions from the decoder.  Numbers in brackets are the paper's equations;
`nn.attention` has those of the windows.

    x_hat_t = x - E[x | c_t-1]                                                             (3)
    r_t     = conv(read(x, x_hat_t)), window from h_dec_t-1                                (4), (27)
    h_enc_t = LSTM(h_enc_t-1, [r_t, h_dec_t-1])                                            (5)
    q(z_t | x, z_<t) = N(mu, sigma²), from h_enc_t; p(z_t) = N(0, I)                       (1)-(2)
    h_dec_t = LSTM(h_dec_t-1, z_t)                                                         (7)
    c_t     = c_t-1 + write(upconv(h_dec_t)), window from h_dec_t                          (8), (29)

    x      image (B, C, H, W), values in [0, 1]      c      canvas: parameters of the pixels
    h_enc, h_dec   outputs (B, units) of the LSTMs   z      latents (B, Z)
    y      labels (B, classes), one-hot, if any      B T N  images, steps, window side
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drawnet.errors.schema import PositiveInt
from drawnet.models.base import Window, check_image
from drawnet.models.canvas import CanvasModel, ConvolutionalConfig, State, initialise_windows
from drawnet.models.sequential import drop_empty
from drawnet.nn import attention
from drawnet.nn.convolution import ConvDecoder, ConvEncoder, halved
from drawnet.nn.distributions import Gaussian
from drawnet.nn.recurrent import LSTM, Linear


@dataclass(frozen=True)
class PatchDrawConfig(ConvolutionalConfig):
    """Sizes of a DRAW with convolutions in its windows; the defaults suit 28 × 28 pixels."""

    steps: PositiveInt = 16
    """T, glimpses and writes an image."""
    read: Window = 12
    """N, side of the read window."""
    write: Window = 12
    """N, side of the write window."""


class PatchDraw(CanvasModel):
    """DRAW with convolutions in its windows; images of any size."""

    config: PatchDrawConfig

    def __init__(self, config: PatchDrawConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        check_image(shape)
        self.add_first_states()
        convolutions, units = (config.features, config.kernel, config.num_downsamples), config.units

        self.read_head = Linear(units, 5)
        self.read_net = ConvEncoder(2 * shape[0], *convolutions)
        glimpse = config.features * math.prod(
            halved(config.read, config.read, config.num_downsamples)
        )
        self.encoder = LSTM(drop_empty(glimpse, units, config.classes), units)
        self.q = Linear(units, 2 * config.latents)
        self.decoder = LSTM(drop_empty(config.latents, config.classes), units)
        self.write_head = Linear(units, 5)
        self.write_net = ConvDecoder(
            units, *convolutions, (self.canvas_shape[0], config.write, config.write)
        )
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Start with windows that already do something, as DRAW's do.

        But q and z start with larger weights: the path from x through z to c is longer here, and
        the KL collapses before it is learned (measured: docs/log.md).
        """
        self.q.weight.mul_(0.6)
        initialise_windows(
            self.decoder,
            (self.h_dec, self.s_dec),
            (self.read_head.weight, self.read_head.bias, self.config.read),
            (self.write_head.weight, self.write_head.bias, self.config.write),
            max(self.shape[1:]),
            strong=False,
        )
        self.decoder.weight[:, : -self.config.units] *= 3.0

    def infer(self, x: Tensor, state: State) -> tuple[Gaussian, State]:
        x_hat = self.error_image(x, self.likelihood(state))
        window = self.read_head(state.h_dec)
        r = self.read_net(self.read((x, x_hat), window)).flatten(1)
        h_enc, s_enc = self.encoder(drop_empty(r, state.h_dec, state.y), state.h_enc, state.s_enc)
        mu, log_sigma = self.q(h_enc).chunk(2, 1)
        return Gaussian(mu, log_sigma), state._replace(h_enc=h_enc, s_enc=s_enc, read=window)

    def read(self, images: tuple[Tensor, ...], window: Tensor) -> Tensor:
        """Read images (B, C, H, W) through windows (B, 5): (B, len(images) · C, N, N).   (27)"""
        return attention.read(images, window, self.config.read)

    def write(self, canvas: Tensor, patch: Tensor, window: Tensor) -> Tensor:
        """Add a patch (B, C, N, N) to the canvas (B, C, H, W) through windows (B, 5).   (29)"""
        return attention.write(canvas, patch, window)

    def prior(self, state: State) -> None:
        """N(0, I) at every step."""

    def advance(self, z: Tensor, state: State) -> State:
        h_dec, s_dec = self.decoder(drop_empty(z, state.y), state.h_dec, state.s_dec)
        window = self.write_head(h_dec)
        c = self.write(state.c, self.write_net(h_dec), window)
        return state._replace(c=c, h_dec=h_dec, s_dec=s_dec, write=window)


Config, Model = PatchDrawConfig, PatchDraw
