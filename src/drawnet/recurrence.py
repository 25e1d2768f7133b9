"""Linear maps and LSTM cells for networks that are unrolled over many steps.

Backpropagation through T steps adds up T gradients of every weight matrix: T thin products and T
passes over the whole matrix.  Inside `Unrolled(model)` the layers here form that gradient from
the rows of many steps at once: the same sum, in larger products.  The gradients of the inputs
flow step by step as always.  Any model built from these layers gains, whatever its step is.

`Unrolled` also sets the number type of the matrix products: their operands are rounded to
bfloat16 if asked, weights once for all steps.  Everything outside the products stays float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from drawnet import kernels

ROWS = 2048
"""Rows gathered before they enter a weight's gradient: enough for a fast product, and bounded."""


class Rows:
    """A layer's inputs and output gradients, row by row, and their product so far: Σ gᵀ x, Σ g."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Tensor, Tensor]] = []
        self.sums: tuple[Tensor, Tensor] | None = None

    def add(self, x: Tensor, g: Tensor) -> None:
        self.waiting.append((x, g))
        if len(self.waiting) * len(x) >= ROWS:
            self.flush()

    def flush(self) -> None:
        x, g = (torch.cat(part) for part in zip(*self.waiting, strict=True))
        self.waiting.clear()
        weight, bias = (g.T @ x).float(), g.sum(0, dtype=torch.float32)
        self.sums = (
            (weight, bias) if self.sums is None else (self.sums[0] + weight, self.sums[1] + bias)
        )

    def take(self) -> tuple[Tensor | None, Tensor | None]:
        if self.waiting:
            self.flush()
        sums, self.sums = self.sums, None
        return sums or (None, None)


class _Collect(torch.autograd.Function):
    """The identity on (weight, bias); its backward runs after every use's and hands on the sums."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        ctx.rows = rows
        ctx.set_materialize_grads(False)
        return weight.view_as(weight), bias.view_as(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: None) -> tuple[Tensor | None, Tensor | None, None]:
        return *ctx.rows.take(), None


class _Product(torch.autograd.Function):
    """x Wᵀ for x = the inputs side by side; the gradients of W *and* b go to `rows`."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, unroll: "Unroll", *inputs: Tensor
    ) -> Tensor:
        x = unroll.cast(inputs)
        ctx.rows, ctx.widths = unroll.rows, [part.shape[1] for part in inputs]
        ctx.save_for_backward(x, unroll.operand)
        return x @ unroll.transposed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, operand = ctx.saved_tensors
        g = g.to(x.dtype)
        ctx.rows.add(x, g)
        dx = (g @ operand).float()
        return None, None, None, *dx.split(ctx.widths, 1)


@dataclass
class Unroll:
    """What a layer holds while it is unrolled: its weights as operands, and where gradients go."""

    operand: Tensor
    transposed: Tensor
    weight: Tensor
    bias: Tensor
    rows: Rows

    def cast(self, inputs: tuple[Tensor, ...]) -> Tensor:
        x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)
        return x.to(self.operand.dtype)


class Layer(nn.Module):
    """What `Unrolled` looks for: inside it, `unroll` is what `begin` made for the sequence."""

    unroll: Any = None

    def begin(self, dtype: torch.dtype | None) -> Any:
        """Prepare for one unrolled sequence whose products take operands of type `dtype`."""


class Affine(Layer):
    """W (out, in) and b (out,), applied to inputs that stand side by side: (B, in_1), (B, in_2) …"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight, std=inputs**-0.5)
        self.unroll: Unroll | None = None

    def begin(self, dtype: torch.dtype | None) -> Unroll:
        """Prepare for one unrolled sequence whose products take operands of type `dtype`."""
        operand, rows = self.weight.detach().to(dtype or self.weight.dtype), Rows()
        weight, bias = _Collect.apply(self.weight, self.bias, rows)
        return Unroll(operand, operand.t().contiguous(), weight, bias, rows)

    def product(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(x Wᵀ, b), still to be added: an LSTM does that in passing.  b's gradient goes with W's."""
        if self.unroll is None:
            return F.linear(torch.cat(inputs, 1), self.weight), self.bias
        u = self.unroll
        return _Product.apply(u.weight, u.bias, u, *inputs), self.bias.detach()


class Linear(Affine):
    """W x + b, (B, in) … -> (B, out)."""

    def forward(self, *inputs: Tensor) -> Tensor:
        product, bias = self.product(*inputs)
        return product + bias


class LSTM(Affine):
    """A long short-term memory cell (Hochreiter & Schmidhuber 1997, with forget gates).

    i, f, g, o = W [x, h] + b;   c' = σ(f) c + σ(i) tanh(g);   h' = σ(o) tanh(c').
    """

    def __init__(self, inputs: Sequence[int], units: int) -> None:
        super().__init__(sum(inputs) + units, 4 * units)
        # Each input gets weights for its own width, so that a glimpse of 8 numbers is heard
        # beside 256 recurrent units.
        parts = self.weight.data.split((*inputs, units), 1)
        for part in parts:
            nn.init.normal_(part, std=(len(parts) * part.shape[1]) ** -0.5)
        nn.init.ones_(self.bias.data[units : 2 * units])  # remember at the start

    def forward(self, inputs: tuple[Tensor, ...], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """inputs (B, in) …, h and c (B, units) -> (h', c')."""
        gates, bias = self.product(*inputs, h)
        if self.unroll and kernels.usable(gates, c):
            h, c = kernels.LSTMCell.apply(gates, bias, c)
            return h, c
        return cell(gates + bias, c)


def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(gates (B, 4K), c (B, K)) -> (h', c')."""
    i, f, g, o = gates.chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


class Unrolled:
    """`with Unrolled(model):` a sequence of steps whose weight gradients are formed together.

    May be entered again for the same sequence, as recomputation in the backward pass does.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        layers = [m for m in model.modules() if isinstance(m, Layer)]
        self.layers: list[tuple[Layer, Any]] = [(m, m.begin(dtype)) for m in layers]
        self.outer: list[list[Any]] = []

    def __enter__(self) -> "Unrolled":
        self.outer.append([layer.unroll for layer, _ in self.layers])
        for layer, unroll in self.layers:
            layer.unroll = unroll
        return self

    def __exit__(self, *_: object) -> None:
        for (layer, _unroll), before in zip(self.layers, self.outer.pop(), strict=True):
            layer.unroll = before
