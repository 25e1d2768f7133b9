"""Latents and the error image, fused: autograd around distributions.c."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from drawnet.kernels.compiled import apply, call, check, once_differentiable


class SampleAndKL(torch.autograd.Function):
    """(mu, log_sigma, eps), each (B, …) -> z (B, …), kl (B,) against N(0, I)."""

    @staticmethod
    def forward(ctx: Any, mu: Tensor, log_sigma: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        z, kl = torch.empty_like(eps), eps.new_empty(len(eps))
        call("gaussian_forward", *_sizes(eps), mu.stride(0), mu, log_sigma, eps, z, kl)
        ctx.save_for_backward(mu, log_sigma, eps)
        return z, kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor, dkl: Tensor) -> tuple[Tensor, Tensor, None]:
        mu, s, eps = ctx.saved_tensors
        dmu, ds = torch.empty_like(eps), torch.empty_like(eps)
        dz, dkl = dz.contiguous(), dkl.contiguous()
        call("gaussian_backward", *_sizes(eps), mu.stride(0), mu, s, eps, dz, dkl, dmu, ds)
        return dmu, ds, None


class RelativePosterior(torch.autograd.Function):
    """(d, log s, mu_p, log sigma_p), each (B, …) -> mu, log sigma; see `nn.distributions`."""

    @staticmethod
    def forward(ctx: Any, d: Tensor, s: Tensor, mu: Tensor, log_sigma: Tensor) -> Any:
        out = _new(d), _new(d)
        leads = d.stride(0), mu.stride(0)
        call("relative_forward", *_sizes(d), leads[0], d, s, leads[1], mu, log_sigma, *out)
        ctx.save_for_backward(d, log_sigma)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dmu: Tensor, ds: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        d, log_sigma = ctx.saved_tensors
        dmu, ds, dd, dp = dmu.contiguous(), ds.contiguous(), _new(d), _new(d)
        leads = d.stride(0), log_sigma.stride(0)
        call("relative_backward", *_sizes(d), leads[0], d, leads[1], log_sigma, dmu, ds, dd, dp)
        return dd, ds, dmu, dp


class SampleAndKLToPrior(torch.autograd.Function):
    """(mu, log sigma, mu_p, log sigma_p, eps), each (B, …) -> z (B, …), kl (B,)."""

    @staticmethod
    def forward(ctx: Any, mu: Tensor, s: Tensor, mu_p: Tensor, s_p: Tensor, eps: Tensor) -> Any:
        z, kl, leads = (
            torch.empty_like(eps),
            eps.new_empty(len(eps)),
            (mu.stride(0), mu_p.stride(0)),
        )
        operands = leads[0], mu, s, leads[1], mu_p, s_p, eps
        call("posterior_forward", *_sizes(eps), *operands, z, kl)
        ctx.save_for_backward(mu, s, mu_p, s_p, eps)
        return z, kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor, dkl: Tensor) -> tuple[Tensor | None, ...]:
        mu, s, mu_p, s_p, eps = ctx.saved_tensors
        found = [torch.empty_like(eps) for _ in range(4)]
        operands = mu.stride(0), mu, s, mu_p.stride(0), mu_p, s_p, eps
        dz, dkl = dz.contiguous(), dkl.contiguous()
        call("posterior_backward", *_sizes(eps), *operands, dz, dkl, *found)
        return *found, None


def _sizes(t: Tensor) -> tuple[int, int]:
    """Rows, and numbers in a row."""
    return len(t), t[0].numel()


def _new(like: Tensor) -> Tensor:
    """Room for rows without gaps."""
    return like.new_empty(like.shape)


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


def in_rows(mu: Tensor, log_sigma: Tensor) -> bool:
    """Whether mu and log sigma have rows in one piece, equally far apart."""
    alike = mu.shape == log_sigma.shape and mu.stride() == log_sigma.stride()
    return alike and len(mu) > 0 and mu[0].is_contiguous()


def relative_posterior(d: Sequence[Tensor], p: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """`nn.distributions.relative_posterior`, fused; d and p: mean and log deviation, `in_rows`."""
    for t in (*d, *p):
        check(t, *d[0].shape)
    mu, log_sigma = apply(RelativePosterior, *d, *p)
    return mu, log_sigma


def sample_and_kl(
    q: Sequence[Tensor], p: Sequence[Tensor] | None, eps: Tensor
) -> tuple[Tensor, Tensor]:
    """`nn.distributions.sample_and_kl`, fused; q and p: mean and log deviation, `in_rows`."""
    for t in (*q, *(p or ())):
        check(t, *eps.shape)
    z, kl = apply(SampleAndKLToPrior, *q, *p, eps) if p else apply(SampleAndKL, *q, eps)
    return z, kl
