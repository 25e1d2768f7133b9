"""Steps of `nn.recurrent`'s layers, fused: autograd around recurrent.c."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from drawnet.kernels.compiled import NoSaveContext, call, check, once_differentiable, suffix
from drawnet.kernels.packing import PackedWeights, aligned


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
    """(weight, bias, weights, shift, c, *inputs, h) -> (h', c'): one step of an `LSTM`.

    Product, bias and cell in one node; the gates are kept as activations, nothing else is.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        bias: Tensor,
        weights: PackedWeights,
        shift: Tensor | None,
        c: Tensor,
        *parts: Tensor,
    ) -> tuple[Tensor, Tensor]:
        keep, parts = not isinstance(ctx, NoSaveContext), tuple(_rows(p) for p in parts)
        x, c, widths = weights.place(parts, keep), c.contiguous(), [p.shape[1] for p in parts]
        check(c, x.shape[0], bias.shape[0] // 4)
        if shift is not None:
            check(shift := shift.contiguous(), x.shape[0], bias.shape[0])
        gates = x.new_empty(x.shape[0], bias.shape[0])
        h_next, c_next = torch.empty_like(c), torch.empty_like(c)
        arguments = (*c.shape, x.shape[1], *_parts(parts, widths), weights.forward, bias, shift)
        call(f"lstm_forward_{suffix(x.dtype)}", *arguments, c, x, gates, c_next, h_next)
        if keep:
            ctx.save_for_backward(x, gates, c, c_next, weights.backward)
            ctx.grads, ctx.widths = weights.grads, widths
        return h_next, c_next

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor, dc: Tensor) -> tuple[Tensor | None, ...]:
        x, gates, c, c_next, operand = ctx.saved_tensors
        dgates, dc_prev = ctx.grads.gradient(x, aligned(gates.shape[1])), torch.empty_like(c)
        dparts = _gradients(ctx, c, ctx.widths, 5)
        dshift = c.new_empty(gates.shape) if ctx.needs_input_grad[3] else None
        arguments = (*c.shape, dgates.shape[1], gates, c, c_next, dh.contiguous(), dc.contiguous())
        made = (operand, dgates, dshift, dc_prev, *_parts(dparts, ctx.widths))
        call(f"lstm_backward_{suffix(x.dtype)}", *arguments, *made)
        ctx.grads.add(x)
        return None, None, None, dshift, dc_prev, *dparts


class Cell(torch.autograd.Function):
    """(gates (B, 4U) of either operand type, bias (4U,), c (B, U)) -> (h', c')."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, bias: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates, bias, c = gates.contiguous(), bias.contiguous(), c.contiguous()
        check(gates, c.shape[0], 4 * c.shape[1])
        check(bias, gates.shape[1])
        activations, h_next, c_next = (torch.empty_like(t) for t in (gates, c, c))
        name = f"cell_forward_{suffix(gates.dtype)}"
        call(name, *c.shape, gates, bias, c, activations, c_next, h_next)
        ctx.save_for_backward(activations, c, c_next)
        return h_next, c_next

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor, dc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gates, c, c_next = ctx.saved_tensors
        dgates, dc_prev = torch.empty_like(gates), torch.empty_like(c)
        name = f"cell_backward_{suffix(gates.dtype)}"
        arguments = (*c.shape, gates, c, c_next, dh.contiguous(), dc.contiguous())
        call(name, *arguments, dgates, dc_prev)
        return dgates, dgates.sum(0, dtype=torch.float32), dc_prev


class LinearStep(torch.autograd.Function):
    """(weight, bias, weights, *inputs) -> W x + b: one step of a `Linear`."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, weights: PackedWeights, *parts: Tensor
    ) -> Tensor:
        keep, parts = not isinstance(ctx, NoSaveContext), tuple(_rows(p) for p in parts)
        x, widths = weights.place(parts, keep), [p.shape[1] for p in parts]
        out = parts[0].new_empty(x.shape[0], bias.shape[0])
        arguments = (*out.shape, x.shape[1], *_parts(parts, widths), weights.forward)
        call(f"linear_forward_{suffix(x.dtype)}", *arguments, bias, x, out)
        if keep:
            ctx.save_for_backward(x, weights.backward)
            ctx.grads, ctx.widths = weights.grads, widths
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        x, operand = ctx.saved_tensors
        dout = _rows(dout)
        g = ctx.grads.gradient(x, aligned(dout.shape[1]))
        dparts = _gradients(ctx, x, ctx.widths, 3)
        arguments = (*g.shape, _parts([dout], [dout.shape[1]])[0], operand, g)
        call(f"linear_backward_{suffix(x.dtype)}", *arguments, *_parts(dparts, ctx.widths))
        ctx.grads.add(x)
        return None, None, None, *dparts
