"""Linear maps and recurrent cells, one step at a time.

    B images   K units   inputs stand side by side: (B, in_1), (B, in_2) …

Operands of the matrix products may be rounded to bfloat16 (`Operands`); everything outside the
products stays in the type of the weights.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Layer(nn.Module):
    """A layer whose products may take rounded operands."""

    operand_dtype: torch.dtype | None = None
    """Type to which the operands are rounded; None: as they are."""


class Operands:
    """`with Operands(model, dtype):` the products of the model's layers take operands of this type.

    dtype: None for the layers' own.  The context may be entered again, as generators and
    recomputation in the backward pass do.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None) -> None:
        self.layers = [m for m in model.modules() if isinstance(m, Layer)]
        self.dtype = dtype
        self._outer: list[list[torch.dtype | None]] = []

    def __enter__(self) -> None:
        self._outer.append([layer.operand_dtype for layer in self.layers])
        for layer in self.layers:
            layer.operand_dtype = self.dtype

    def __exit__(self, *_: object) -> None:
        for layer, before in zip(self.layers, self._outer.pop(), strict=True):
            layer.operand_dtype = before


class Affine(Layer):
    """W [inputs] + b for layers of which it is a part: weight (out, in), bias (out,)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight, std=inputs**-0.5)

    def affine(self, *inputs: Tensor) -> Tensor:
        """W [inputs] + b, (B, in) … -> (B, out)."""
        x = torch.cat(inputs, 1)
        dtype = self.operand_dtype or x.dtype
        return F.linear(x.to(dtype), self.weight.to(dtype)).to(x.dtype) + self.bias


class Linear(Affine):
    """W [inputs] + b, (B, in) … -> (B, out)."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.affine(*inputs)


class LSTM(Affine):
    """A long short-term memory cell (Hochreiter & Schmidhuber 1997, with forget gates).

    i, f, g, o = W [x, h] + b;   c' = σ(f) c + σ(i) tanh(g);   h' = σ(o) tanh(c').
    """

    def __init__(self, inputs: Sequence[int], units: int) -> None:
        super().__init__(sum(inputs) + units, 4 * units)
        init_per_input(self.weight, (*inputs, units))
        nn.init.ones_(self.bias.data[units : 2 * units])  # remember at the start

    def split_weights(self) -> tuple[Tensor, Tensor]:
        """The weights of the inputs, and those of h."""
        units = len(self.weight) // 4
        return self.weight[:, :-units], self.weight[:, -units:]

    def forward(self, inputs: tuple[Tensor, ...], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """inputs (B, in) …, h and c (B, K) -> (h', c')."""
        return cell(self.affine(*inputs, h), c)


def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(gates (B, 4K, …), c (B, K, …)) -> (h', c'), an LSTM's nonlinear part."""
    i, f, g, o = gates.chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


@torch.no_grad()
def init_per_input(weight: Tensor, widths: Sequence[int]) -> None:
    """Scale each input's weights by its own width, so that 8 numbers count beside 256 units."""
    for part in weight.split(list(widths), 1):
        nn.init.normal_(part, std=(len(widths) * part.shape[1]) ** -0.5)


class RNN(nn.Module):
    """A plain recurrent cell (Elman 1990) with the interface of `LSTM`: h' = tanh(W [x, h] + b).

    It has no cell state: c is returned as it came.
    """

    def __init__(self, inputs: Sequence[int], units: int) -> None:
        super().__init__()
        self.xh = Linear(sum(inputs) + units, units)
        init_per_input(self.xh.weight, (*inputs, units))

    def split_weights(self) -> tuple[Tensor, Tensor]:
        """The weights of the inputs, and those of h."""
        units = len(self.xh.weight)
        return self.xh.weight[:, :-units], self.xh.weight[:, -units:]

    def forward(self, inputs: tuple[Tensor, ...], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """inputs (B, in) …, h (B, K) -> (h', c)."""
        return torch.tanh(self.xh(*inputs, h)), c


class GRU(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) with the interface of `LSTM`.

    r, u, n = W x + b;   r', u', n' = V h + d;
    h' = (1 - k) tanh(n + σ(r + r') n') + k h,   k = σ(u + u').
    The reset gate acts behind V, as in cuDNN and PyTorch.  c is returned as it came.
    """

    def __init__(self, inputs: Sequence[int], units: int) -> None:
        super().__init__()
        self.x, self.h = Linear(sum(inputs), 3 * units), Linear(units, 3 * units)
        parts = len(inputs) + 1
        init_per_input(self.x.weight, inputs)
        self.x.weight.data *= (len(inputs) / parts) ** 0.5
        self.h.weight.data *= parts**-0.5
        nn.init.ones_(self.x.bias.data[units : 2 * units])  # remember at the start

    def split_weights(self) -> tuple[Tensor, Tensor]:
        """The weights of the inputs, and those of h."""
        return self.x.weight, self.h.weight

    def forward(self, inputs: tuple[Tensor, ...], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """inputs (B, in) …, h (B, K) -> (h', c)."""
        r, u, n = self.x(*inputs).chunk(3, 1)
        r_h, u_h, n_h = self.h(h).chunk(3, 1)
        n = torch.tanh(n + torch.sigmoid(r + r_h) * n_h)
        return torch.lerp(n, h, torch.sigmoid(u + u_h)), c
