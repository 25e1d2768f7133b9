"""DRAW: A Recurrent Neural Network For Image Generation (Gregor et al. 2015, arXiv 1502.04623).

Numbers in brackets are the paper's equations; its letters are kept:

    x      image (B, C, H, W), values in [0, 1]      x_hat  what the canvas lacks of it
    c      canvas: logits of the pixels              r      what the encoder reads
    h_enc, h_dec   outputs of the two LSTMs          z      latents (B, Z)
    w      patch that the decoder writes             y      labels (B, classes), one-hot, if any
    B T Z N   images, steps, latents, window side

An option beyond the paper gives the encoder a vector of convolutions of x, which are computed once an
image, in addition to its glimpses; what is generated, and how, is untouched by it.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from drawnet.errors import schema
from drawnet.errors.schema import NonNegativeInt, PositiveInt
from drawnet.models.base import WindowIfAny, check_image
from drawnet.models.canvas import CanvasModel, State, initialise_windows
from drawnet.models.sequential import drop_empty
from drawnet.nn import attention
from drawnet.nn.convolution import ConvEncoder, halved
from drawnet.nn.distributions import Gaussian
from drawnet.nn.recurrent import LSTM, Linear


@dataclass(frozen=True)
class DrawConfig:
    """Sizes of a DRAW network; the defaults are the paper's for MNIST with attention."""

    steps: PositiveInt = 64
    """T, glimpses and writes an image."""
    units: PositiveInt = 256
    """Units of each LSTM."""
    latents: PositiveInt = 100
    """Z, latents a step."""
    read: WindowIfAny = 2
    """N, side of the read window; 0 reads the whole image instead (17)."""
    write: WindowIfAny = 5
    """N, side of the write window; 0 writes the whole canvas instead (18)."""
    likelihood: Literal["bernoulli", "logistic", "coupled", "cross_entropy"] = "bernoulli"
    """Binary pixels; 256 grey levels (a true code length); or the paper's cost on intensities."""
    classes: NonNegativeInt = 0
    """Classes of images that the model is conditioned on; 0: none."""
    prior: Literal["standard", "learned"] = "standard"
    """p(z_t): the paper's N(0, I), or N(mu_p, sigma_p²) predicted from h_dec_{t-1}."""
    features: NonNegativeInt = 0
    """Channels of three convolutions over x, once an image, of which every encoder step takes a vector
    of `units` numbers in addition to its glimpse.  0, as in the paper: none."""

    def __post_init__(self) -> None:
        schema.check(self, "--model.")


class Draw(CanvasModel):
    """DRAW with each of its two attention windows on or off."""

    observed = ("features",)

    def __init__(self, config: DrawConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        if config.read or config.write:
            check_image(shape)
        channels, height, width = shape
        units, n = config.units, config.write
        glimpse = 2 * channels * (config.read**2 or height * width)
        self.patch = (self.canvas_shape[0], n, n) if n else self.canvas_shape

        whole = units * bool(config.features)
        self.encoder = LSTM(drop_empty(glimpse, units, whole, config.classes), units)
        self.q = Linear(units, 2 * config.latents)
        self.decoder = LSTM(drop_empty(config.latents, config.classes), units)
        # One map of h_dec for the patch, the window to write it with, and the window to read next.
        self.parts = (math.prod(self.patch), 5 * bool(config.write), 5 * bool(config.read))
        self.heads = Linear(units, sum(self.parts))
        self.add_first_states()
        self.initialise()
        # Last, so that from one seed both kinds of prior begin with the same other weights.
        learned = config.prior == "learned"
        self.p = Linear(units + config.classes, 2 * config.latents) if learned else None
        if self.p is not None:
            nn.init.zeros_(self.p.weight)  # exactly N(0, I)
        self.convolutions, self.summary = None, None
        if config.features:
            self.convolutions = ConvEncoder(channels, config.features, 3, 3)
            grid = halved(height, width, 3)
            self.summary = Linear(config.features * math.prod(grid), units)

    @torch.no_grad()
    def initialise(self) -> None:
        """Start with windows that already do something, if there are two."""
        self.q.weight.mul_(0.3)
        n_read, n_write = self.config.read, self.config.write
        if n_read and n_write:
            (_, write, read), (_, write_bias, read_bias) = (
                p.split(self.parts) for p in (self.heads.weight, self.heads.bias)
            )
            initialise_windows(
                self.decoder,
                (self.h_dec, self.s_dec),
                (read, read_bias, n_read),
                (write, write_bias, n_write),
                max(self.shape[1:]),
                strong=self.config.likelihood == "bernoulli",
            )

    def start(self, y: Tensor) -> State:
        """Learned c_0, h_enc_0, h_dec_0, and the first window, from h_dec_0."""
        state = super().start(y)
        _, write, read = self.decoder_heads(state.h_dec)
        none = torch.zeros_like
        return state._replace(next_read=read, read=none(read), write=none(write))

    def observe(self, x: Tensor, state: State) -> State:
        """Summarise x by convolutions, where the encoder has them."""
        if self.convolutions is None or self.summary is None:
            return state
        return state._replace(features=self.summary(self.convolutions(x).flatten(1)).tanh())

    # ---- a step, in the paper's order -----------------------------------------------------------

    def encoder_inputs(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        """What the encoder sees: the glimpse r_t, h_dec_{t-1}, the features of x, if any, and y."""
        x_hat = self.error_image(x, self.likelihood(state))  # (3)
        r: tuple[Tensor, ...] = (x.flatten(1), x_hat.flatten(1))  # (17)
        if self.config.read:
            r = (self.read((x, x_hat), state.next_read).flatten(1),)  # (4)
        return drop_empty(*r, state.h_dec, state.features, state.y)

    def read(self, images: tuple[Tensor, ...], window: Tensor) -> Tensor:
        """Read images (B, C, H, W) through windows (B, 5): (B, len(images) · C, N, N).   (27)"""
        return attention.read(images, window, self.config.read)

    def infer(self, x: Tensor, state: State) -> tuple[Gaussian, State]:
        """q(z_t | x, z_1..t-1), relative to p where p is learned."""
        h_enc, s_enc = self.encoder(self.encoder_inputs(x, state), state.h_enc, state.s_enc)  # (5)
        d = Gaussian(*self.q(h_enc).chunk(2, 1))  # (1), (2)
        q = self.relative_posterior(d, self.prior(state))
        return q, state._replace(h_enc=h_enc, s_enc=s_enc, read=state.next_read)

    def prior(self, state: State) -> Gaussian | None:
        """N(0, I) at every step, or N(mu_p, sigma_p²) from h_dec_{t-1} and y."""
        if self.p is None:
            return None
        mu, log_sigma = self.p(*drop_empty(state.h_dec, state.y)).chunk(2, 1)
        return Gaussian(mu, log_sigma)

    def advance(self, z: Tensor, state: State) -> State:
        """Run the decoder and write on the canvas."""
        h_dec, s_dec = self.decoder(drop_empty(z, state.y), state.h_dec, state.s_dec)  # (7)
        w, window, next_read = self.decoder_heads(h_dec)
        c = self.write(state.c, w, window) if self.config.write else state.c + w  # (8)
        return state._replace(c=c, h_dec=h_dec, s_dec=s_dec, next_read=next_read, write=window)

    def decoder_heads(self, h_dec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The patch, the window to write it through, and the window to read next."""
        w, window, next_read = self.heads(h_dec).split(self.parts, 1)  # (21)
        return w.view(-1, *self.patch), window, next_read  # (18), (28)

    def write(self, canvas: Tensor, patch: Tensor, window: Tensor) -> Tensor:
        """Add a patch (B, C, N, N) to the canvas (B, C, H, W) through windows (B, 5).   (29)"""
        return attention.write(canvas, patch, window)


Config, Model = DrawConfig, Draw
