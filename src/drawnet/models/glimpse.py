"""DRAW's reader alone, as a classifier: DRAW (Gregor et al. 2015, arXiv 1502.04623), section 4.1.

A recurrent network looks at an image through a moving window and names its class after the last
look.  There is no decoder: the network's own state says where it looks next.

    for t = 1..T:
    r_t          = read(x, h_t-1) = γ F_Y x F_Xᵀ       N × N, parameters W(h_t-1)    (21), (27)
    h_t          = RNN(h_t-1, r_t)                      an LSTM
    p(class | x) = softmax(W h_T)

    x       image (B, C, H, W), values in [0, 1]      B   images
    h, s    LSTM output and cell (B, units)           T   glimpses
    look    the window to read next, raw (B, 5)       N   side of the window
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from drawnet.errors import schema
from drawnet.errors.schema import Ge, NonNegative, PositiveInt
from drawnet.models.base import Classifier, Window, check_image
from drawnet.nn import attention
from drawnet.nn.recurrent import LSTM, Linear


@dataclass(frozen=True)
class GlimpseConfig:
    """Sizes of the reader; the defaults are the paper's for cluttered MNIST."""

    glimpses: PositiveInt = 8
    """T, how often it looks (the paper: 4 or 8)."""
    units: PositiveInt = 256
    """Units of the LSTM."""
    read: Window = 12
    """N of the read window."""
    classes: Annotated[int, Ge(2)] = 10
    """Classes of images."""
    window_clip: NonNegative = 0.0
    """Largest gradient that one image may have in a window's raw parameters (nats); 0: any."""

    def __post_init__(self) -> None:
        schema.check(self, "--model.")


class State(NamedTuple):
    """What the reader carries from glimpse to glimpse; windows are raw parameters."""

    h: Tensor
    s: Tensor
    next_read: Tensor
    """The window that h asks to read next, (B, 5)."""
    read: Tensor
    """The window that was read last."""


class Glimpse(Classifier):
    """A classifier that looks `glimpses` times through a window that it moves itself."""

    def __init__(self, config: GlimpseConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        check_image(shape)
        self.config, self.shape, self.classes = config, shape, config.classes
        units = config.units
        self.encoder = LSTM([shape[0] * config.read**2], units)
        self.next_read = Linear(units, 5)
        self.out = Linear(units, config.classes)
        self.h, self.s = (nn.Parameter(torch.zeros(units)) for _ in range(2))
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """First look at the whole image, with filters as wide as their distance asks for."""
        stride = (max(self.shape[1:]) - 1) / (self.config.read - 1)
        self.next_read.weight.mul_(0.3)
        self.next_read.bias[2] = math.log((0.45 * stride) ** 2)
        nn.init.zeros_(self.out.weight)

    def start(self, batch: int) -> State:
        """Learned h_0 and cell, for so many images."""
        h, s = (p.expand(batch, *p.shape) for p in (self.h, self.s))
        return State(h, s, self.next_read(h), self.h.new_zeros(batch, 5))

    def glimpse(self, x: Tensor, state: State) -> State:
        """Look once through the window that the state asks for."""
        next_read = attention.clip_gradient(state.next_read, self.config.window_clip)
        r = self.read((x,), next_read).flatten(1)
        h, s = self.encoder((r,), state.h, state.s)
        return State(h, s, self.next_read(h), state.next_read)

    def read(self, images: tuple[Tensor, ...], window: Tensor) -> Tensor:
        """Read images (B, C, H, W) through windows (B, 5): (B, len(images) · C, N, N).   (27)"""
        return attention.read(images, window, self.config.read)

    def states(self, x: Tensor) -> Iterator[State]:
        """The state after every glimpse at x (B, C, H, W)."""
        state = self.start(x.shape[0])
        for _ in range(self.config.glimpses):
            state = self.glimpse(x, state)
            yield state

    def logits(self, x: Tensor) -> Tensor:
        with self.unrolled():
            *_, state = self.states(x)
            return self.out(state.h)  # type: ignore[no-any-return]


Config, Model = GlimpseConfig, Glimpse
