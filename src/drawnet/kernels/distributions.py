"""Latents and the error image, fused: autograd around distributions.c."""

from typing import Any

import torch
from torch import Tensor

from drawnet.kernels.compiled import apply, call, check, once_differentiable


class SampleAndKL(torch.autograd.Function):
    """(mu, log_sigma, eps), each (B, Z) -> z (B, Z), kl (B,) against N(0, I)."""

    @staticmethod
    def forward(ctx: Any, mu: Tensor, log_sigma: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        z, kl = torch.empty_like(eps), eps.new_empty(len(eps))
        call("gaussian_forward", *eps.shape, mu.stride(0), mu, log_sigma, eps, z, kl)
        ctx.save_for_backward(mu, log_sigma, eps)
        return z, kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor, dkl: Tensor) -> tuple[Tensor, Tensor, None]:
        mu, s, eps = ctx.saved_tensors
        dmu, ds = torch.empty_like(eps), torch.empty_like(eps)
        dz, dkl = dz.contiguous(), dkl.contiguous()
        call("gaussian_backward", *eps.shape, mu.stride(0), mu, s, eps, dz, dkl, dmu, ds)
        return dmu, ds, None


class ErrorImage(torch.autograd.Function):
    """(x, logits) -> x - σ(logits), both of one shape; see `nn.distributions.error_image`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, logits: Tensor) -> Tensor:
        x, logits = x.contiguous(), logits.contiguous()
        out = torch.empty_like(x)
        call("error_forward", len(x), x[0].numel(), x, logits, out)
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, Tensor]:
        x, out = ctx.saved_tensors
        d, dlogits = d.contiguous(), torch.empty_like(x)
        call("error_backward", len(x), x[0].numel(), x, out, d, dlogits)
        return d if ctx.needs_input_grad[0] else None, dlogits


def error_image(x: Tensor, logits: Tensor) -> Tensor:
    """`nn.distributions.error_image` of Bernoulli pixels, fused."""
    return apply(ErrorImage, x, logits)


def sample_and_kl(mu: Tensor, log_sigma: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """`nn.distributions.sample_and_kl` against N(0, I), fused."""
    check(mu, *eps.shape)
    check(log_sigma, *eps.shape)
    z, kl = apply(SampleAndKL, mu, log_sigma, eps)
    return z, kl
