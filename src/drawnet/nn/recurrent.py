"""Linear maps and recurrent cells for networks that are unrolled over many steps.

Backpropagation through T steps adds up T gradients of every weight matrix: T thin products and T
passes over the whole matrix.  Inside `Unrolled(model)` the layers here form that gradient from
the rows of many steps at once: the same sum, in larger products.  The gradients of the inputs
flow step by step as always.  Any model built from these layers gains, whatever its step is.

`Unrolled` also sets the number type of the matrix products: their operands are rounded to
bfloat16 if asked, weights once for all steps.  Everything outside the products stays float32.
"""

import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawnet import kernels
from drawnet.kernels import recurrent as fused

BLOCK = {torch.bfloat16: 4096}
"""Rows that enter a weight's gradient together, enough to be fast; 1,536 of wider types."""


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The type in which gradients are passed on and summed up."""
    return torch.float32 if dtype == torch.bfloat16 else dtype


class Rows:
    """A layer's operands x and output gradients g, several steps to a block, and Σ gᵀ x so far.

    Steps come in order and their gradients in reverse; a block enters the sums when it is complete.
    most: steps that come in a row; no block is longer.
    """

    def __init__(self) -> None:
        self.block: Tensor | None = None
        self.most, self.used = sys.maxsize, 0
        self.open: dict[int, tuple[Tensor, Tensor, set[int]]] = {}
        self.sums: Tensor | None = None
        self.task = -1

    def place(self, batch: int, columns: int, like: Tensor) -> Tensor:
        """Where the next step's operand goes, (batch, columns): beside its neighbours'."""
        steps = max(1, min(self.most, BLOCK.get(like.dtype, 1536) // batch))
        block = self.block
        if block is None or self.used == steps or block.shape[1:] != (batch, columns):
            block, self.used = like.new_empty(steps, batch, columns), 0
        self.block, self.used = block, self.used + 1
        # Not a view: views share a version, and a later step's filling would spoil the saved ones.
        offset, storage = (self.used - 1) * batch * columns, block.untyped_storage()
        return like.new_empty(0).set_(storage, offset, (batch, columns), (columns, 1))

    def gradient(self, x: Tensor, outputs: int) -> Tensor:
        """Where the gradient (batch, outputs) that belongs to the operand x goes.  Then `add`."""
        if self.task != (task := torch._C._current_graph_task_id()):
            # What a backward pass that never came to the weights has left is not this pass's.
            self.open.clear()
            self.sums, self.task = None, task
        key, size = x.untyped_storage().data_ptr(), x.numel()
        if key not in self.open:
            steps = x.untyped_storage().nbytes() // (size * x.element_size())
            block = x.as_strided((steps, *x.shape), (size, *x.stride()), 0)
            self.open[key] = block, x.new_empty(steps, x.shape[0], outputs), set()
        return self.open[key][1][x.storage_offset() // size]

    def add(self, x: Tensor) -> None:
        """The gradient of x stands in its place."""
        key, slot = x.untyped_storage().data_ptr(), x.storage_offset() // x.numel()
        self.open[key][2].add(slot)
        if slot == 0:
            self.flush(key)

    def flush(self, key: int) -> None:
        x, g, slots = self.open.pop(key)
        for missing in set(range(min(slots), max(slots))) - slots:
            g[missing].zero_()
        x, g = (t[min(slots) : max(slots) + 1].flatten(0, 1) for t in (x, g))
        if self.sums is None:
            self.sums = (g.T @ x).to(_wide(g.dtype))
        elif g.dtype == self.sums.dtype:
            self.sums.addmm_(g.T, x)
        else:
            self.sums += g.T @ x

    def take(self) -> Tensor | None:
        for key in list(self.open):
            self.flush(key)
        sums, self.sums = self.sums, None
        return sums


class _Collect(torch.autograd.Function):
    """The identity on (weight, bias); its backward runs after every use's and hands on the sums."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        ctx.rows, ctx.shape = rows, weight.shape
        ctx.set_materialize_grads(False)
        return weight.view_as(weight), bias.view_as(bias)

    @staticmethod
    @kernels.first
    def backward(ctx: Any, *_: None) -> tuple[Tensor | None, Tensor | None, None]:
        sums, (n, k) = ctx.rows.take(), ctx.shape
        return (None, None, None) if sums is None else (sums[:n, :k], sums[:n, k], None)


class _Product(torch.autograd.Function):
    """x Wᵀ for x = the inputs side by side; the gradients of W *and* b go to `rows`."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, unroll: "Unroll", *inputs: Tensor
    ) -> Tensor:
        x, at = unroll.place(inputs), 0
        for part in inputs:
            x[:, at : (at := at + part.shape[1])] = part
        x[:, at] = 1
        x[:, at + 1 :] = 0
        ctx.rows, ctx.widths, ctx.wide = unroll.rows, [p.shape[1] for p in inputs], inputs[0].dtype
        ctx.save_for_backward(x, unroll.operand)
        return x @ unroll.operand.T

    @staticmethod
    @kernels.first
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, operand = ctx.saved_tensors
        g = ctx.rows.gradient(x, g.shape[1]).copy_(g)
        ctx.rows.add(x)
        dx = (g @ operand)[:, : sum(ctx.widths)].to(ctx.wide)
        return None, None, None, *dx.split(ctx.widths, 1)


class Unroll:
    """What a layer holds while it is unrolled: its weights for the products, and where gradients go.

    Operands x are padded with columns to a multiple of `fused.ALIGN`, one at least.  The first of
    these is 1: there Σ gᵀ x holds Σ g, the gradient of the bias.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, groups: int = 1) -> None:
        self.rows, self.dtype, self.groups = Rows(), dtype, groups
        self.columns = fused.aligned(weight.shape[1] + 1)
        self.plain, self.like = weight.detach(), weight.new_empty(0, dtype=dtype)
        self.weight, self.bias = _Collect.apply(weight, bias, self.rows)
        self.fused = kernels.usable(weight) and kernels.serves(dtype)

    @cached_property
    def operand(self) -> Tensor:
        """W (out, in), rounded and padded with zeros: for products by PyTorch."""
        padding = self.columns - self.plain.shape[1]
        return F.pad(self.plain.to(self.dtype), (0, padding))

    @cached_property
    def forward(self) -> Tensor:
        """W packed for x Wᵀ by the kernels."""
        return fused.pack(self.plain, self.dtype, self.columns, self.groups)

    @cached_property
    def backward(self) -> Tensor:
        """W packed for g W by the kernels."""
        return fused.pack(self.plain.T, self.dtype, fused.aligned(len(self.plain)))

    def place(self, inputs: Sequence[Tensor], keep: bool = True) -> Tensor:
        """Where the operand of one more step goes, (B, padded in); whether a gradient will need it."""
        shapes = [part.shape for part in inputs]
        batch, want = shapes[0][0], self.plain.shape[1]
        if any(len(shape) != 2 or shape[0] != batch for shape in shapes):
            raise ValueError(f"expected inputs of shape ({batch}, …), not {shapes}")
        if (have := sum(shape[1] for shape in shapes)) != want:
            raise RuntimeError(f"the layer takes {want} inputs, not {have}")
        if keep:
            return self.rows.place(batch, self.columns, self.like)
        return self.like.new_empty(batch, self.columns)


class Layer(nn.Module):
    """A layer that prepares for an unrolled sequence: `begin` gives what `unroll` holds meanwhile."""

    unroll: Any = None

    def begin(self, dtype: torch.dtype | None) -> Any:
        """Prepare for one sequence whose products take operands of type `dtype` (None: its own)."""
        raise NotImplementedError


class Affine(Layer):
    """W (out, in) and b (out,), applied to inputs that stand side by side: (B, in_1), (B, in_2) …"""

    groups = 1
    """Equal parts of the outputs that are used together element by element: the gates of an LSTM."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight, std=inputs**-0.5)

    def begin(self, dtype: torch.dtype | None) -> Unroll:
        return Unroll(self.weight, self.bias, dtype or self.weight.dtype, self.groups)

    def product(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(x Wᵀ, b), still to be added: an LSTM does that in passing.  b's gradient goes with W's."""
        if self.unroll is None:
            return F.linear(torch.cat(inputs, 1), self.weight), self.bias
        u = self.unroll
        return _Product.apply(u.weight, u.bias, u, *inputs), self.bias.detach()


class Linear(Affine):
    """W x + b, (B, in) … -> (B, out)."""

    def forward(self, *inputs: Tensor) -> Tensor:
        u = self.unroll
        if u and u.fused and kernels.usable(*inputs):
            return kernels.apply(fused.LinearStep, u.weight, self.bias.detach(), u, *inputs)
        product, bias = self.product(*inputs)
        return product + bias


class LSTM(Affine):
    """A long short-term memory cell (Hochreiter & Schmidhuber 1997, with forget gates).

    i, f, g, o = W [x, h] + b;   c' = σ(f) c + σ(i) tanh(g);   h' = σ(o) tanh(c').
    """

    groups = 4

    def __init__(self, inputs: Sequence[int], units: int) -> None:
        super().__init__(sum(inputs) + units, 4 * units)
        init_per_input(self.weight, (*inputs, units))
        nn.init.ones_(self.bias.data[units : 2 * units])  # remember at the start

    def split_weights(self) -> tuple[Tensor, Tensor]:
        """The weights of the inputs, and of h."""
        units = len(self.weight) // 4
        return self.weight[:, :-units], self.weight[:, -units:]

    def forward(self, inputs: tuple[Tensor, ...], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """inputs (B, in) …, h and c (B, units) -> (h', c')."""
        u = self.unroll
        if u and u.fused and kernels.usable(c, h, *inputs):
            return kernels.apply(fused.LSTMStep, u.weight, self.bias.detach(), u, c, *inputs, h)
        gates, bias = self.product(*inputs, h)
        return cell(gates + bias, c)


def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(gates (B, 4K), c (B, K)) -> (h', c')."""
    i, f, g, o = gates.chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


@torch.no_grad()
def init_per_input(weight: Tensor, widths: Sequence[int]) -> None:
    """Each input gets weights for its own width: a glimpse of 8 numbers is heard beside 256 units."""
    for part in weight.split(list(widths), 1):
        nn.init.normal_(part, std=(len(widths) * part.shape[1]) ** -0.5)


class RNN(nn.Module):
    """A plain recurrent cell (Elman 1990) with the face of an `LSTM`: h' = tanh(W [x, h] + b).

    It has no cell state: c is handed on as it came.
    """

    def __init__(self, inputs: Sequence[int], units: int) -> None:
        super().__init__()
        self.xh = Linear(sum(inputs) + units, units)
        init_per_input(self.xh.weight, (*inputs, units))

    def split_weights(self) -> tuple[Tensor, Tensor]:
        """The weights of the inputs, and of h."""
        units = len(self.xh.weight)
        return self.xh.weight[:, :-units], self.xh.weight[:, -units:]

    def forward(self, inputs: tuple[Tensor, ...], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """inputs (B, in) …, h (B, units) -> (h', c)."""
        return torch.tanh(self.xh(*inputs, h)), c


class GRU(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) with the face of an `LSTM`.

    r, u, n = W x + b;   r', u', n' = V h + d;
    h' = (1 - k) tanh(n + σ(r + r') n') + k h,   k = σ(u + u').
    The reset gate acts behind V, as in cuDNN and PyTorch.  c is handed on as it came.
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
        """The weights of the inputs, and of h."""
        return self.x.weight, self.h.weight

    def forward(self, inputs: tuple[Tensor, ...], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """inputs (B, in) …, h (B, units) -> (h', c)."""
        r, u, n = self.x(*inputs).chunk(3, 1)
        r_h, u_h, n_h = self.h(h).chunk(3, 1)
        n = torch.tanh(n + torch.sigmoid(r + r_h) * n_h)
        return torch.lerp(n, h, torch.sigmoid(u + u_h)), c


class Unrolled:
    """`with Unrolled(model):` a sequence of steps whose weight gradients are formed together.

    May be entered again for the same sequence, as recomputation in the backward pass does.
    """

    def __init__(
        self, model: nn.Module, dtype: torch.dtype | None = None, steps: int | None = None
    ) -> None:
        """steps: how many are unrolled at a time, if not all; a new block begins with them."""
        layers = [m for m in model.modules() if isinstance(m, Layer)]
        self.layers: list[tuple[Layer, Any]] = [(m, m.begin(dtype)) for m in layers]
        self.unrolls = [u for _, u in self.layers if isinstance(u, Unroll)]
        for unroll in self.unrolls:
            unroll.rows.most = steps or unroll.rows.most
        self.outer: list[list[Any]] = []

    def __enter__(self) -> "Unrolled":
        self.outer.append([layer.unroll for layer, _ in self.layers])
        for unroll in self.unrolls:
            unroll.rows.block = None
        for layer, unroll in self.layers:
            vars(layer)["unroll"] = unroll  # a module's own setattr is slow
        return self

    def __exit__(self, *_: object) -> None:
        for (layer, _unroll), before in zip(self.layers, self.outer.pop(), strict=True):
            vars(layer)["unroll"] = before
        if torch.is_grad_enabled():  # the backward pass has a packing of its own
            for unroll in self.unrolls:
                vars(unroll).pop("forward", None)
