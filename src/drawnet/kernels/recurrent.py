"""Unrolled layers, fused: autograd around recurrence.c."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from drawnet.kernels import Forget, call, check, first, library, suffix

ALIGN = 16
"""Operands of products are padded to a multiple of this many columns."""


def aligned(columns: int) -> int:
    """So many columns, padded."""
    return -(-columns // ALIGN) * ALIGN


def pack(weight: Tensor, dtype: torch.dtype, columns: int, groups: int = 1) -> Tensor:
    """A matrix (N, K), float32, laid out for products x Wᵀ with x (B, columns): K and padding.

    groups: N falls into so many equal parts, each filled up with zero rows to whole panels.
    """
    loaded = library()
    assert loaded is not None
    n, k = weight.shape
    panel = loaded.panel()
    rows = groups * -(-(n // groups) // panel) * panel
    out = torch.empty(rows, columns, dtype=dtype)
    sizes = (n, k, *weight.stride(), groups, columns)
    call(f"pack_{suffix(dtype)}", *sizes, weight, out)
    return out


def _parts(tensors: Sequence[Tensor | None], widths: Sequence[int]) -> tuple[Any, int]:
    """Matrices as the kernels' `Part`s: address (NULL for None), width and stride of each."""
    words: list[int] = []
    for tensor, width in zip(tensors, widths, strict=True):
        words += (0, width, 0) if tensor is None else (tensor.data_ptr(), width, tensor.stride(0))
    return (ctypes.c_long * len(words))(*words), len(widths)


def _rows(part: Tensor) -> Tensor:
    return part if part.stride(1) == 1 else part.contiguous()


def _gradients(ctx: Any, like: Tensor, widths: Sequence[int], first: int) -> list[Tensor | None]:
    """Room for the gradients of those inputs, from the first-th argument on, that want one."""
    want = ctx.needs_input_grad[first:]
    return [torch.empty(len(like), n) if w else None for n, w in zip(widths, want, strict=True)]


class LSTMStep(torch.autograd.Function):
    """(weight, bias, unroll, c, *inputs, h) -> (h', c'): one step of an unrolled `recurrence.LSTM`.

    Product, bias and cell in one node; the gates are kept as activations, nothing else is.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, unroll: Any, c: Tensor, *parts: Tensor
    ) -> tuple[Tensor, Tensor]:
        keep, parts = not isinstance(ctx, Forget), tuple(_rows(p) for p in parts)
        x, c, widths = unroll.place(parts, keep), c.contiguous(), [p.shape[1] for p in parts]
        check(c, x.shape[0], bias.shape[0] // 4)
        gates = x.new_empty(x.shape[0], bias.shape[0])
        h_next, c_next = torch.empty_like(c), torch.empty_like(c)
        given = (*c.shape, x.shape[1], *_parts(parts, widths), unroll.forward)
        call(f"lstm_forward_{suffix(x.dtype)}", *given, bias, c, x, gates, c_next, h_next)
        if keep:
            ctx.save_for_backward(x, gates, c, c_next, unroll.backward)
            ctx.rows, ctx.widths = unroll.rows, widths
        return h_next, c_next

    @staticmethod
    @first
    def backward(ctx: Any, dh: Tensor, dc: Tensor) -> tuple[Tensor | None, ...]:
        x, gates, c, c_next, weights = ctx.saved_tensors
        dgates, dc_prev = ctx.rows.gradient(x, aligned(gates.shape[1])), torch.empty_like(c)
        dparts = _gradients(ctx, c, ctx.widths, 4)
        given = (*c.shape, dgates.shape[1], gates, c, c_next, dh.contiguous(), dc.contiguous())
        made = (weights, dgates, dc_prev, *_parts(dparts, ctx.widths))
        call(f"lstm_backward_{suffix(x.dtype)}", *given, *made)
        ctx.rows.add(x)
        return None, None, None, dc_prev, *dparts


class Cell(torch.autograd.Function):
    """(gates (B, 4U) of either operand type, bias (4U,), c (B, U)) -> (h', c'); see recurrence.cell."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, bias: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        given, bias, c = given.contiguous(), bias.contiguous(), c.contiguous()
        check(given, c.shape[0], 4 * c.shape[1])
        check(bias, given.shape[1])
        gates, h_next, c_next = (torch.empty_like(t) for t in (given, c, c))
        name = f"cell_forward_{suffix(given.dtype)}"
        call(name, *c.shape, given, bias, c, gates, c_next, h_next)
        ctx.save_for_backward(gates, c, c_next)
        return h_next, c_next

    @staticmethod
    @first
    def backward(ctx: Any, dh: Tensor, dc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gates, c, c_next = ctx.saved_tensors
        dgates, dc_prev = torch.empty_like(gates), torch.empty_like(c)
        name = f"cell_backward_{suffix(gates.dtype)}"
        given = (*c.shape, gates, c, c_next, dh.contiguous(), dc.contiguous())
        call(name, *given, dgates, dc_prev)
        return dgates, dgates.sum(0, dtype=torch.float32), dc_prev


class LinearStep(torch.autograd.Function):
    """(weight, bias, unroll, *inputs) -> W x + b: one step of an unrolled `recurrence.Linear`."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, unroll: Any, *parts: Tensor) -> Tensor:
        keep, parts = not isinstance(ctx, Forget), tuple(_rows(p) for p in parts)
        x, widths = unroll.place(parts, keep), [p.shape[1] for p in parts]
        out = parts[0].new_empty(x.shape[0], bias.shape[0])
        given = (*out.shape, x.shape[1], *_parts(parts, widths), unroll.forward)
        call(f"linear_forward_{suffix(x.dtype)}", *given, bias, x, out)
        if keep:
            ctx.save_for_backward(x, unroll.backward)
            ctx.rows, ctx.widths = unroll.rows, widths
        return out

    @staticmethod
    @first
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        x, weights = ctx.saved_tensors
        dout = _rows(dout)
        g = ctx.rows.gradient(x, aligned(dout.shape[1]))
        dparts = _gradients(ctx, x, ctx.widths, 3)
        given = (*g.shape, _parts([dout], [dout.shape[1]])[0], weights, g)
        call(f"linear_backward_{suffix(x.dtype)}", *given, *_parts(dparts, ctx.widths))
        ctx.rows.add(x)
        return None, None, None, *dparts
