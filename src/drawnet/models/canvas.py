"""What all the DRAWs share: a canvas and two recurrent networks, whose first states are learned."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from drawnet.errors import schema
from drawnet.errors.schema import NonNegativeInt, PositiveInt
from drawnet.models.base import Downsamples, Kernel
from drawnet.models.sequential import StepModel
from drawnet.nn import distributions
from drawnet.nn.distributions import PixelKind, Pixels
from drawnet.nn.recurrent import LSTM


class State(NamedTuple):
    """What is carried from step to step; windows are raw parameters (B, 5), (B, 0) where none is."""

    c: Tensor
    """The canvas: parameters of the pixels, (B, canvas channels, H, W)."""
    h_enc: Tensor
    s_enc: Tensor
    h_dec: Tensor
    s_dec: Tensor
    """Outputs h and cells s of the encoder and the decoder, (B, units, …)."""
    read: Tensor
    """The window that was read last."""
    write: Tensor
    """The window that was written through last."""
    next_read: Tensor
    """The window to be read next, from h_dec."""
    y: Tensor
    """Labels (B, classes), one-hot."""
    features: Tensor
    """What the encoder has of x as a whole, (B, 0) where nothing."""


class CanvasModel(StepModel):
    """A step model with a canvas c, an encoder and a decoder."""

    def __init__(self, config: Any, shape: tuple[int, int, int], *grid: int) -> None:
        """grid: height and width of the recurrent networks' maps; none where they are vectors."""
        super().__init__()
        self.config, self.shape, self.classes = config, shape, config.classes
        self.steps, self.latents, self.grid = config.steps, (config.latents, *grid), grid
        self.components = getattr(config, "components", distributions.COMPONENTS)
        channels = distributions.canvas_channels(config.likelihood, shape[0], self.components)
        self.canvas_shape = (channels, *shape[1:])

    def add_first_states(self) -> None:
        """Add the learned c_0, and output and cell of both networks before the first step."""
        self.c = nn.Parameter(torch.zeros(self.canvas_shape))
        self.h_enc, self.s_enc, self.h_dec, self.s_dec = (
            nn.Parameter(torch.zeros(self.config.units, *self.grid)) for _ in range(4)
        )

    @torch.no_grad()
    def init_from_mean(self, mean: Tensor) -> None:
        """Start the canvas at the mean training image (C, H, W) instead of at grey."""
        self.c.copy_(distributions.first_canvas(self.config.likelihood, mean, self.components))

    def start(self, y: Tensor) -> State:
        """Learned c_0, h_enc_0 and h_dec_0, the same for every image."""
        learned = (self.c, self.h_enc, self.s_enc, self.h_dec, self.s_dec)
        c, h_enc, s_enc, h_dec, s_dec = (p.expand(y.shape[0], *p.shape) for p in learned)
        none = c.new_zeros(y.shape[0], 0)
        return State(c, h_enc, s_enc, h_dec, s_dec, none, none, none, y, none)

    def likelihood(self, state: State) -> Pixels:
        return distributions.pixels(self.config.likelihood, state.c, self.components)  # (9)

    def windows(self, state: State) -> dict[str, Tensor]:
        raw = {"read": state.read, "write": state.write}
        return {name: window for name, window in raw.items() if window.shape[1]}


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
    strong: 1/γ = e², from which binary pixels start best; otherwise as much a pixel as that is
    for 5 × 5 on 28 × 28: grey levels are steeper, and a large 1/γ in a large window diverges.
    """
    for state in states:
        state.normal_()
    from_z, from_h = decoder.split_weights()
    from_z *= 0.2  # little noise at first
    from_h *= 2.0  # keep moving

    (to_read, read_bias, n_read), (to_write, write_bias, n_write) = read, write
    stride = 0.6 * (image - 1) / (n_write - 1)  # of the write window's filters
    cell = n_write * stride / n_read  # the read window's, over the same square
    write_gamma = -2.0 if strong else -2.0 - 2 * math.log(stride / 4.05)
    to_write[:2] *= 1.5
    to_write[2:] *= 0.3
    to_read[:2] = to_write[:2]
    to_read[2:] *= 0.3
    for bias, n, delta, log_gamma in (
        (write_bias, n_write, stride, write_gamma),
        (read_bias, n_read, cell, 1.0),
    ):
        sigma2, delta_ = math.log((0.45 * delta) ** 2), math.log(delta * (n - 1) / (image - 1))
        bias[-3:] = torch.tensor([sigma2, delta_, log_gamma])


@dataclass(frozen=True)
class ConvolutionalConfig:
    """Sizes that the DRAWs with convolutions share; one with other defaults states them itself."""

    steps: PositiveInt = 8
    """T, times that the canvas is read and added to."""
    units: PositiveInt = 256
    """Units of each LSTM."""
    latents: PositiveInt = 100
    """Z, latents a step."""
    features: PositiveInt = 16
    """Channels of the convolutions on either side."""
    num_downsamples: Downsamples = 2
    """n, convolutions of stride 2 on either side; behind them is a grid coarser by 2ⁿ."""
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
