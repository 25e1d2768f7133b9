"""What a layer holds while a sequence is unrolled: packed weights, and the gradients of all steps.

Backpropagation through T steps adds up T gradients of every weight matrix: T thin products and T
passes over the whole matrix.  Here the gradient is formed from the rows of many steps at once: the
same sum, in larger products.  The gradients of the inputs flow step by step as always.
"""

import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from drawnet.kernels.compiled import call, library, once_differentiable, suffix

ALIGN = 16
"""Operands of products are padded to a multiple of this many columns."""
BLOCK = {torch.bfloat16: 4096}
"""Rows that enter a weight's gradient together, enough to be fast; 1,536 of wider types."""


def aligned(columns: int) -> int:
    """The number of columns, padded."""
    return -(-columns // ALIGN) * ALIGN


def _panel() -> int:
    """Columns of a panel."""
    return library().panel()  # type: ignore[union-attr]


def packed(weight: Tensor, dtype: torch.dtype, columns: int, groups: int = 1) -> Tensor:
    """A matrix (N, K), float32, laid out for products x Wᵀ with x (B, columns): K and padding.

    groups: N falls into so many equal parts, each filled up with zero rows to whole panels.
    """
    n, k = weight.shape
    panel = _panel()
    rows = groups * -(-(n // groups) // panel) * panel
    out = torch.empty(rows, columns, dtype=dtype)
    sizes = (rows // panel, n, k, *weight.stride(), groups, columns)
    call(f"pack_{suffix(dtype)}", *sizes, weight, out)
    return out


class WeightGradAccumulator:
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
        """Return room for the next step's operand, (batch, columns), beside its neighbours'."""
        steps = max(1, min(self.most, BLOCK.get(like.dtype, 1536) // batch))
        block = self.block
        if block is None or self.used == steps or block.shape[1:] != (batch, columns):
            block, self.used = like.new_empty(steps, batch, columns), 0
        self.block, self.used = block, self.used + 1
        # Not a view: views share a version, and filling a later step would spoil the saved ones.
        offset, storage = (self.used - 1) * batch * columns, block.untyped_storage()
        return like.new_empty(0).set_(storage, offset, (batch, columns), (columns, 1))

    def gradient(self, x: Tensor, outputs: int) -> Tensor:
        """Return room for the gradient (batch, outputs) that belongs to the operand x; then `add`."""
        if self.task != (task := torch._C._current_graph_task_id()):
            # Left over from a backward pass that never reached the weights.
            self.open.clear()
            self.sums, self.task = None, task
        key, size = x.untyped_storage().data_ptr(), x.numel()
        if key not in self.open:
            steps = x.untyped_storage().nbytes() // (size * x.element_size())
            block = x.as_strided((steps, *x.shape), (size, *x.stride()), 0)
            self.open[key] = block, x.new_empty(steps, x.shape[0], outputs), set()
        return self.open[key][1][x.storage_offset() // size]

    def add(self, x: Tensor) -> None:
        """Take note that the gradient of x stands in its place."""
        key, slot = x.untyped_storage().data_ptr(), x.storage_offset() // x.numel()
        self.open[key][2].add(slot)
        if slot == 0:
            self.flush(key)

    def flush(self, key: int) -> None:
        """Add a block to the sums."""
        x, g, slots = self.open.pop(key)
        for missing in set(range(min(slots), max(slots))) - slots:
            g[missing].zero_()
        x, g = (t[min(slots) : max(slots) + 1].flatten(0, 1) for t in (x, g))
        panels = -(-x.shape[1] // _panel())
        add = self.sums is not None
        if self.sums is None:
            self.sums = torch.empty(g.shape[1], panels * _panel())
        name = f"gradient_{suffix(x.dtype)}"
        call(name, panels, len(x), g.shape[1], x.shape[1], g, x, self.sums, int(add))

    def take(self) -> Tensor | None:
        """Return the sums and begin anew."""
        for key in list(self.open):
            self.flush(key)
        sums, self.sums = self.sums, None
        return sums


class _Collect(torch.autograd.Function):
    """The identity on (weight, bias); its backward runs after every use's and returns the sums."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, grads: WeightGradAccumulator
    ) -> tuple[Tensor, Tensor]:
        ctx.grads, ctx.shape = grads, weight.shape
        ctx.set_materialize_grads(False)
        return weight.view_as(weight), bias.view_as(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: None) -> tuple[Tensor | None, Tensor | None, None]:
        sums, (n, k) = ctx.grads.take(), ctx.shape
        return (None, None, None) if sums is None else (sums[:n, :k], sums[:n, k], None)


class PackedWeights:
    """A layer's weights for the products of one sequence, and where their gradients are collected.

    Operands x are padded with columns to a multiple of `ALIGN`, one at least.  The first of these
    is 1: there Σ gᵀ x holds Σ g, the gradient of the bias.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, dtype: torch.dtype, steps: int, groups: int = 1
    ) -> None:
        """groups: equal parts of the outputs that are used together, the gates of an LSTM."""
        self.grads, self.dtype, self.groups = WeightGradAccumulator(), dtype, groups
        self.grads.most = steps or sys.maxsize
        self.columns = aligned(weight.shape[1] + 1)
        self.plain, self.like = weight.detach(), weight.new_empty(0, dtype=dtype)
        self.constant_bias = bias.detach()
        self.weight, _ = _Collect.apply(weight, bias, self.grads)  # and the gradient of the bias

    @cached_property
    def forward(self) -> Tensor:
        """W packed for x Wᵀ."""
        return packed(self.plain, self.dtype, self.columns, self.groups)

    @cached_property
    def backward(self) -> Tensor:
        """W packed for g W."""
        return packed(self.plain.T, self.dtype, aligned(len(self.plain)))

    def place(self, inputs: Sequence[Tensor], keep: bool = True) -> Tensor:
        """Return room for one more step's operand, (B, columns); keep: a gradient will need it."""
        shapes = [part.shape for part in inputs]
        batch, want = shapes[0][0], self.plain.shape[1]
        if any(len(shape) != 2 or shape[0] != batch for shape in shapes):
            raise ValueError(f"expected inputs of shape ({batch}, …), not {shapes}")
        if (have := sum(shape[1] for shape in shapes)) != want:
            raise RuntimeError(f"the layer takes {want} inputs, not {have}")
        if keep:
            return self.grads.place(batch, self.columns, self.like)
        return self.like.new_empty(batch, self.columns)
