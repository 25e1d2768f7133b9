"""Convolutions, and encoders, decoders and recurrent cells made of them.

Operands of their products may be rounded, as those of `recurrent` are (`recurrent.Operands`).

    B images   K channels   H W sides of the grid
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawnet.nn.recurrent import Layer, Linear, cell


class Conv(Layer):
    """W * x + b over inputs that stand side by side: (B, in_1, H, W), (B, in_2, H, W) …

    Zeros stand beyond the border; the output's sides are H, W over the stride, rounded up.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight, std=(inputs * kernel**2) ** -0.5)

    def product(self, *inputs: Tensor) -> Tensor:
        """W * x, in the type of the operands."""
        x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)
        dtype = self.operand_dtype or x.dtype
        return F.conv2d(x.to(dtype), self.weight.to(dtype), None, self.stride, self.kernel // 2)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.product(*inputs).to(inputs[0].dtype) + self.bias[:, None, None]


class UpConv(Conv):
    """A transposed convolution of stride s, as a convolution whose channels become pixels.

    (B, in, H, W) … -> (B, out, sH, sW).  Every place of the grid writes through one kernel, s times
    as wide as the convolution's.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__(inputs, outputs * stride**2, kernel)
        self.up = stride

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.pixel_shuffle(super().forward(*inputs), self.up)


class ConvLSTM(nn.Module):
    """A long short-term memory cell at every place of a grid (Shi et al. 2015, arXiv 1506.04214).

    i, f, g, o = W * [x, h] + b;   c' = σ(f) c + σ(i) tanh(g);   h' = σ(o) tanh(c').
    """

    def __init__(self, inputs: Sequence[int], units: int, kernel: int) -> None:
        super().__init__()
        self.gates = Conv(sum(inputs) + units, 4 * units, kernel)
        parts = self.gates.weight.data.split((*inputs, units), 1)
        for part in parts:  # scaled by each input's own width
            nn.init.normal_(part, std=(len(parts) * part[0].numel()) ** -0.5)
        nn.init.ones_(self.gates.bias.data[units : 2 * units])  # remember at the start

    def forward(self, inputs: tuple[Tensor, ...], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """inputs (B, in, H, W) …, h and c (B, units, H, W) -> (h', c')."""
        gates, bias = self.gates.product(*inputs, h), self.gates.bias
        return cell(gates.to(c.dtype) + bias[:, None, None], c)


def halved(height: int, width: int, num_downsamples: int) -> tuple[int, int]:
    """The sides of a grid coarser by 2ⁿ than an image, rounded up."""
    return -(-height // 2**num_downsamples), -(-width // 2**num_downsamples)


def broadcast_spatial(y: Tensor, like: Tensor) -> Tensor:
    """Numbers (B, K) as maps (B, K, H, W), the same at every place of the grid of `like`."""
    return y[:, :, None, None].expand(*y.shape, *like.shape[2:])


class ConvEncoder(nn.Module):
    """So many convolutions of stride 2, each with a ReLU: (B, in_i, H, W) … -> (B, K, H/2ⁿ, W/2ⁿ)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, num_downsamples: int) -> None:
        super().__init__()
        widths = [inputs] + [outputs] * num_downsamples
        self.layers = nn.ModuleList(Conv(a, b, kernel, 2) for a, b in itertools.pairwise(widths))

    def forward(self, *inputs: Tensor) -> Tensor:
        x = torch.cat(inputs, 1)
        for layer in self.layers:
            x = layer(x).relu()
        return x


class ConvDecoder(nn.Module):
    """The way back, from a vector to an image: (B, in) -> (B, C, H, W).

    A linear map to (K, H/2ⁿ, W/2ⁿ), sides rounded up, then n up-convolutions of stride 2 with a tanh
    before each; the image is a cut-out.  Why no ReLU: a fresh decoder says little, tanh passes it on
    as it is, and training starts twice as fast as where half of it is lost (docs/log.md).
    """

    def __init__(
        self,
        inputs: int,
        features: int,
        kernel: int,
        num_downsamples: int,
        image: tuple[int, int, int],
    ) -> None:
        super().__init__()
        channels, self.height, self.width = image
        self.grid = (features, *halved(self.height, self.width, num_downsamples))
        self.linear = Linear(inputs, math.prod(self.grid))
        widths = [features] * num_downsamples + [channels]
        self.layers = nn.ModuleList(UpConv(a, b, kernel, 2) for a, b in itertools.pairwise(widths))

    def forward(self, h: Tensor) -> Tensor:
        x: Tensor = self.linear(h).view(-1, *self.grid)
        for layer in self.layers:
            x = layer(x.tanh())
        return x[..., : self.height, : self.width]
