"""The moving window of DRAW: a grid of Gaussian filters laid over an image.

Gregor et al. 2015 (arXiv 1502.04623), section 3.2; numbers in brackets are the paper's equations.
Pixels are counted from 1, as in the paper: column a = 1..W, row b = 1..H.

    B  images          C  channels        H, W  rows and columns of an image (the paper's B and A)
    N  window side     F  filterbank: row i holds the weights of filter i over the pixels

Everything here is computed in the type of its arguments and is safe in float32 for any finite
parameters: narrow, wide and far-off windows neither overflow nor divide by zero.  Two choices
make it so, and the paper is silent on both:

* each filter is a softmax over the pixels, so it sums to one *wherever* it lies.  A filter that
  lies off the image reads the nearest border instead of dividing 0 by 0;
* the logarithms are clamped to [-LIMIT, LIMIT], the centres to one longer side around the image.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

LIMIT = 12.0
"""Clamp on log variance, log stride and log intensity: exp(12) = 163,000."""


class Window(NamedTuple):
    """Where an N × N window lies, each (B,): centre (pixels), stride (pixels), variance, intensity."""

    g_x: Tensor
    g_y: Tensor
    delta: Tensor
    sigma2: Tensor
    gamma: Tensor


def check_side(n: int) -> None:
    """N = 1 would divide by zero in (24): ValueError."""
    if n < 2:
        raise ValueError(f"a window needs a side of at least 2 to have a stride, not {n}")


def window(parameters: Tensor, n: int, height: int, width: int) -> Window:
    """Decode the five numbers that the decoder emits, (B, 5) -> `Window`.   (21)-(24)

    (g̃_X, g̃_Y, log σ², log δ̃, log γ) = parameters
    g_X = (W + 1)/2 · (g̃_X + 1)      g_Y = (H + 1)/2 · (g̃_Y + 1)
    δ = (max(W, H) - 1)/(N - 1) · δ̃

    All zeros make a window that spans the image.  N = 1 has no stride: ValueError.
    """
    check_side(n)
    g_x, g_y, *logs = parameters.unbind(-1)
    sigma2, delta, gamma = (log.clamp(-LIMIT, LIMIT).exp() for log in logs)
    return Window(
        g_x=(width + 1) / 2 * (g_x + 1),
        g_y=(height + 1) / 2 * (g_y + 1),
        delta=(max(width, height) - 1) / (n - 1) * delta,
        sigma2=sigma2,
        gamma=gamma,
    )


def centres(g: Tensor, delta: Tensor, n: int, side: int) -> Tensor:
    """Filter centres μ^i = g + (i - N/2 - 0.5) δ for i = 1..N, (B,) -> (B, N), pixels.   (19)-(20)

    side: the image's longer one; centres beyond [-side, 2 side] are held there.
    """
    i = torch.arange(1, n + 1, dtype=g.dtype, device=g.device)
    mu = g[:, None] + (i - n / 2 - 0.5) * delta[:, None]
    return mu.clamp(-side, 2 * side)


def filterbank(mu: Tensor, sigma2: Tensor, size: int) -> Tensor:
    """F[i, a] ∝ exp(-(a - μ^i)² / 2σ²), rows summing to one, (B, N) -> (B, N, size).   (25)-(26)"""
    a = torch.arange(1, size + 1, dtype=mu.dtype, device=mu.device)
    return (-((a - mu[..., None]) ** 2) / (2 * sigma2[:, None, None])).softmax(-1)


def filterbanks(w: Window, n: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(F_Y, F_X) of a window: (B, N, H) and (B, N, W)."""
    side = max(height, width)
    f_y = filterbank(centres(w.g_y, w.delta, n, side), w.sigma2, height)
    f_x = filterbank(centres(w.g_x, w.delta, n, side), w.sigma2, width)
    return f_y, f_x


class _Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameters: Tensor, limit: float) -> Tensor:
        ctx.limit = limit
        return parameters.view_as(parameters)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        norm = gradients[0].norm(dim=1, keepdim=True)
        return gradients[0] * (ctx.limit / norm.clamp_min(ctx.limit)), None


def clip_gradient(parameters: Tensor, limit: float) -> Tensor:
    """Windows' parameters (B, 5) as they are; no image's gradient in them is longer than `limit`.

    The gradient of that image's own objective, where the mean over B images is what is minimised;
    0: as long as it is.  Where a window lies decides what all later ones see, so that a few images
    have gradients a thousand times the others'; a clip of the batch's norm leaves the step to them.
    """
    return _Clipped.apply(parameters, limit / len(parameters)) if limit else parameters


def read(images: Sequence[Tensor], parameters: Tensor, n: int) -> Tensor:
    """Read each image through one window: γ F_Y x F_Xᵀ.   (27)

    images: each (B, C, H, W); parameters: (B, 5) as in `window`.
    Returns the glimpses one after another, (B, len(images) · C, N, N).
    """
    check_side(n)
    height, width = images[0].shape[-2:]
    w = window(parameters, n, height, width)
    f_y, f_x = filterbanks(w, n, height, width)
    x = torch.cat(tuple(images), 1) if len(images) > 1 else images[0]
    glimpse = f_y[:, None] @ x @ f_x[:, None].mT
    return w.gamma[:, None, None, None] * glimpse


def write(canvas: Tensor, patch: Tensor, parameters: Tensor) -> Tensor:
    """Lay an N × N patch on the canvas: canvas + F_Yᵀ w F_X / γ.   (8), (28)-(29)

    canvas: (B, C, H, W); patch: (B, C, N, N); parameters: (B, 5) as in `window`.
    """
    check_side(patch.shape[-1])
    height, width = canvas.shape[-2:]
    w = window(parameters, patch.shape[-1], height, width)
    f_y, f_x = filterbanks(w, patch.shape[-1], height, width)
    return canvas + f_y[:, None].mT @ patch @ f_x[:, None] / w.gamma[:, None, None, None]
