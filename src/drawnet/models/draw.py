"""DRAW: A Recurrent Neural Network For Image Generation (Gregor et al. 2015, arXiv 1502.04623).

Numbers in brackets are the paper's equations; its letters are kept:

    x      image (B, C, H, W), values in [0, 1]      x_hat  what the canvas lacks of it
    c      canvas: logits of the pixels              r      what the encoder reads
    h_enc, h_dec   outputs of the two LSTMs          z      latents (B, Z)
    w      patch that the decoder writes             y      labels (B, classes), one-hot, if any
    B T Z N   images, steps, latents, window side
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from drawnet.errors import UserError, at_least
from drawnet.models.sequential import StepModel, drop_empty
from drawnet.nn import attention, distributions
from drawnet.nn.distributions import Gaussian, Pixels
from drawnet.nn.recurrent import LSTM, Linear


@dataclass(frozen=True)
class DrawConfig:
    """Sizes of a DRAW network; the defaults are the paper's for MNIST with attention."""

    steps: int = 64
    """T, glimpses and writes an image."""
    units: int = 256
    """Units of each LSTM."""
    latents: int = 100
    """Z, latents a step."""
    read: int = 2
    """N, side of the read window; 0 reads the whole image instead (17)."""
    write: int = 5
    """N, side of the write window; 0 writes the whole canvas instead (18)."""
    likelihood: Literal["bernoulli", "logistic", "cross_entropy"] = "bernoulli"
    """Binary pixels; 256 grey levels (a true code length); or the paper's cost on intensities."""
    classes: int = 0
    """Classes of images that the model is told; 0: none."""
    prior: Literal["standard", "learned"] = "standard"
    """p(z_t): the paper's N(0, I), or told by h_dec_t-1 what is to be expected next."""

    def __post_init__(self) -> None:
        at_least(self, 1, "steps", "units", "latents")
        at_least(self, 0, "classes")
        for name in ("read", "write"):
            if (n := getattr(self, name)) < 0 or n == 1:
                raise UserError(
                    f"--model.{name} must be at least 2, or 0 for no attention, not {n}: "
                    "a window of side 1 has no stride (24)"
                )


class State(NamedTuple):
    """What DRAW carries from step to step; windows are raw parameters."""

    c: Tensor
    h_enc: Tensor
    s_enc: Tensor
    h_dec: Tensor
    s_dec: Tensor
    next_read: Tensor
    """The window that h_dec asks to read next, (B, 5); (B, 0) without read attention."""
    read: Tensor
    write: Tensor
    y: Tensor


class Draw(StepModel):
    """DRAW with each of its two attention windows on or off."""

    def __init__(self, config: DrawConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape, self.classes = config, shape, config.classes
        self.steps, self.latents = config.steps, (config.latents,)
        channels, height, width = shape
        canvas_channels = distributions.canvas_channels(config.likelihood, channels)
        self.canvas_shape = (canvas_channels, height, width)
        glimpse = 2 * channels * (config.read**2 or height * width)
        self.patch = (
            (canvas_channels, config.write, config.write) if config.write else self.canvas_shape
        )
        units = config.units

        self.encoder = LSTM(drop_empty(glimpse, units, config.classes), units)
        self.q = Linear(units, 2 * config.latents)
        self.decoder = LSTM(drop_empty(config.latents, config.classes), units)
        # One map of h_dec for the patch, the window to write it with, and the window to read next.
        self.parts = (math.prod(self.patch), 5 * bool(config.write), 5 * bool(config.read))
        self.heads = Linear(units, sum(self.parts))

        self.c = nn.Parameter(torch.zeros(self.canvas_shape))
        self.h_enc, self.s_enc, self.h_dec, self.s_dec = (
            nn.Parameter(torch.zeros(units)) for _ in range(4)
        )
        self.initialise()
        # Last, so that from one seed both kinds of prior begin with the same other weights.
        learned = config.prior == "learned"
        self.p = Linear(units + config.classes, 2 * config.latents) if learned else None
        if self.p is not None:
            nn.init.zeros_(self.p.weight)  # exactly N(0, I)

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

    @torch.no_grad()
    def init_from_mean(self, mean: Tensor) -> None:
        """Start the canvas at the mean training image (C, H, W) instead of at grey."""
        self.c.copy_(distributions.first_canvas(self.config.likelihood, mean))

    def start(self, y: Tensor) -> State:
        """Learned c_0, h_enc_0 and h_dec_0."""
        learned = (self.c, self.h_enc, self.s_enc, self.h_dec, self.s_dec)
        c, h_enc, s_enc, h_dec, s_dec = (p.expand(len(y), *p.shape) for p in learned)
        _, _, next_read = self.decoder_heads(h_dec)
        nowhere = self.c.new_zeros(len(y), 5)
        return State(c, h_enc, s_enc, h_dec, s_dec, next_read, nowhere, nowhere, y)

    def encoder_inputs(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        """What the encoder is shown: the glimpse r_t, h_dec_t-1 and y."""
        x_hat = distributions.error_image(x, self.likelihood(state))  # (3)
        r: tuple[Tensor, ...] = x.flatten(1), x_hat.flatten(1)  # (17)
        if self.config.read:
            r = (
                attention.read((x, x_hat), state.next_read, self.config.read).flatten(1),
            )  # (4), (27)
        return drop_empty(*r, state.h_dec, state.y)

    def infer(self, x: Tensor, state: State) -> tuple[Gaussian, State]:
        h_enc, s_enc = self.encoder(self.encoder_inputs(x, state), state.h_enc, state.s_enc)  # (5)
        q, p = Gaussian(*self.q(h_enc).chunk(2, 1)), self.prior(state)  # (1), (2)
        if p is not None:  # then q is told in p's units
            q = Gaussian(p.sample(q.mu), p.log_sigma + q.log_sigma)
        return q, state._replace(h_enc=h_enc, s_enc=s_enc, read=state.next_read)

    def prior(self, state: State) -> Gaussian | None:
        """N(0, I) at every step, or N(mu_p, sigma_p²) from h_dec_t-1 and y."""
        if self.p is None:
            return None
        mu, log_sigma = self.p(*drop_empty(state.h_dec, state.y)).chunk(2, 1)
        return Gaussian(mu, log_sigma)

    def decoder_heads(self, h_dec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The patch, the window to write it with, and the window to read next."""
        w, window, next_read = self.heads(h_dec).split(self.parts, 1)  # (21)
        return w.view(-1, *self.patch), window, next_read  # (18)

    def advance(self, z: Tensor, state: State) -> State:
        h_dec, s_dec = self.decoder(drop_empty(z, state.y), state.h_dec, state.s_dec)  # (7)
        w, window, next_read = self.decoder_heads(h_dec)
        c = attention.write(state.c, w, window) if self.config.write else state.c + w  # (8), (29)
        return state._replace(c=c, h_dec=h_dec, s_dec=s_dec, next_read=next_read, write=window)

    def likelihood(self, state: State) -> Pixels:
        return distributions.pixels(self.config.likelihood, state.c)  # (9)

    def windows(self, state: State) -> dict[str, Tensor]:
        shown = {"read": (self.config.read, state.read), "write": (self.config.write, state.write)}
        return {name: raw for name, (n, raw) in shown.items() if n}


@torch.no_grad()
def initialise_windows(
    decoder: LSTM,
    states: Sequence[Tensor],
    read: tuple[Tensor, Tensor, int],
    write: tuple[Tensor, Tensor, int],
    image: int,
    *,
    strong: bool,
) -> None:
    """Start with windows that already do something; the paper is silent on initial values.

    From ordinary values attention hardly learns for an epoch: both windows stand still and a
    glimpse of 2 × 2 says little.  Here (measured: docs/log.md) the decoder starts with lively
    dynamics of its own, which carry the windows about the image; the read window goes where
    the write window goes and covers the same square, so that at every place the same thing is
    to be learned: see what is missing here, put it here.

    states: the learned h_dec_0 and its cell; read, write: weight (5, units) and bias (5,) that make
    a window's parameters of h_dec, and its N; image: the longer side.  All are filled in place.
    strong: ink 1/γ = e², from which binary pixels start best; otherwise as much a pixel as that is
    for 5 × 5 on 28 × 28: grey levels are steeper, and strong ink in a large window blows up.
    """
    for state in states:
        state.normal_()
    from_z, from_h = decoder.split_weights()
    from_z *= 0.2  # little noise at first
    from_h *= 2.0  # keep moving

    (to_read, read_bias, n_read), (to_write, write_bias, n_write) = read, write
    stride = 0.6 * (image - 1) / (n_write - 1)  # of the write window's filters
    cell = n_write * stride / n_read  # the read window's, over the same square
    inverse_gamma = -2.0 if strong else -2.0 - 2 * math.log(stride / 4.05)
    to_write[:2] *= 1.5
    to_write[2:] *= 0.3
    to_read[:2] = to_write[:2]
    to_read[2:] *= 0.3
    for bias, n, delta, log_gamma in (
        (write_bias, n_write, stride, inverse_gamma),
        (read_bias, n_read, cell, 1.0),
    ):
        sigma2, delta_ = math.log((0.45 * delta) ** 2), math.log(delta * (n - 1) / (image - 1))
        bias[-3:] = torch.tensor([sigma2, delta_, log_gamma])


Config, Model = DrawConfig, Draw
