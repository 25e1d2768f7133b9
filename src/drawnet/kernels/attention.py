"""The moving window, fused: autograd around attention.c."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from drawnet.kernels.compiled import apply, call, check, once_differentiable

LANES = 16
"""Rows of filters are padded to a multiple of this: LANES in attention.c."""


def small(image: Tensor, n: int) -> bool:
    """Whether an N × N window over such an image (B, C, H, W) fits the kernels' stack."""
    return n * (n + max(image.shape[-2:]) + LANES) <= 2**14


def _filters(like: Tensor, n: int, height: int, width: int) -> Tensor:
    """Room for both filterbanks of every image."""
    rows = sum(-(-side // LANES) * LANES for side in (height, width))
    return like.new_empty(len(like), n * rows)


class Read(torch.autograd.Function):
    """(parameters, n, *images) -> glimpses (B, sum of channels, n, n); see `nn.attention.read`."""

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, n: int, *images: Tensor) -> Tensor:
        parameters, images = parameters.contiguous(), tuple(x.contiguous() for x in images)
        batch, channels, height, width = images[0].shape
        count = len(images) * channels
        glimpse = parameters.new_empty(batch, count, n, n)
        filters = _filters(parameters, n, height, width)
        for k, x in enumerate(images):
            sizes = (batch, channels, height, width, n)
            place = (count * n * n, k * channels * n * n)
            call("read_forward", *sizes, x, parameters, filters, int(k == 0), glimpse, *place)
        ctx.save_for_backward(parameters, filters, *images)
        ctx.n = n
        return glimpse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dglimpse: Tensor) -> tuple[Tensor | None, ...]:
        parameters, filters, *images = ctx.saved_tensors
        dglimpse, n = dglimpse.contiguous(), ctx.n
        count, channels = dglimpse.shape[1], images[0].shape[1]
        dimages: list[Tensor | None] = []
        total = torch.empty_like(parameters)
        for k, x in enumerate(images):
            dimage = torch.empty_like(x) if ctx.needs_input_grad[2 + k] else None
            place = (count * n * n, k * channels * n * n)
            arguments = (*x.shape, n, x, parameters, filters, dglimpse, *place)
            call("read_backward", *arguments, dimage, total, int(k > 0))
            dimages.append(dimage)
        return total, None, *dimages


class Write(torch.autograd.Function):
    """(canvas, patch, parameters) -> canvas + write(patch); see `nn.attention.write`."""

    @staticmethod
    def forward(ctx: Any, canvas: Tensor, patch: Tensor, parameters: Tensor) -> Tensor:
        canvas, n, (height, width) = canvas.contiguous(), patch.shape[-1], canvas.shape[-2:]
        dense = patch[0].is_contiguous() and parameters.stride(1) == 1
        if not dense or patch.stride(0) != parameters.stride(0):
            joined = torch.cat((patch.flatten(1), parameters), 1)
            patch = joined[:, :-5].view(patch.shape)
            parameters = joined[:, -5:]
        out, filters = torch.empty_like(canvas), _filters(canvas, n, height, width)
        sizes = (*canvas.shape, n, patch.stride(0))
        call("write_forward", *sizes, patch, parameters, canvas, filters, out)
        ctx.save_for_backward(patch, parameters, filters)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dcanvas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        patch, parameters, filters = ctx.saved_tensors
        dcanvas = dcanvas.contiguous()
        dpatch, dparameters = dcanvas.new_empty(patch.shape), dcanvas.new_empty(parameters.shape)
        sizes = (*dcanvas.shape, patch.shape[-1], patch.stride(0))
        call("write_backward", *sizes, patch, parameters, filters, dcanvas, dpatch, dparameters)
        return dcanvas, dpatch, dparameters


def read(images: Sequence[Tensor], parameters: Tensor, n: int) -> Tensor:
    """`attention.read`, fused."""
    check(parameters, len(images[0]), 5)
    for x in images:
        check(x, *images[0].shape)
    return apply(Read, parameters, n, *images)


def write(canvas: Tensor, patch: Tensor, parameters: Tensor) -> Tensor:
    """`attention.write`, fused."""
    check(parameters, len(canvas), 5)
    check(patch, *canvas.shape[:2], patch.shape[-1], patch.shape[-1])
    return apply(Write, canvas, patch, parameters)
