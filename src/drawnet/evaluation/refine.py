"""The bound with an approximate posterior that is refined for every image by itself.

The encoder's q is amortised: one network serves all images.  Shifts of its means and log standard
deviations, an image's own, remove what that costs (the amortisation gap of Cremer, Li and Duvenaud
2018, arXiv 1801.03558; refinement as in Kim et al. 2018, arXiv 1802.02550):

    q'(z_t | x, z_1..t-1) = N(mu_t + sigma_t a_t, (sigma_t exp b_t)²)    a, b: (T, B, *latents), from 0

Shifts of means are in units of sigma_t: some latents of a learned prior are a thousand times narrower
than others.  The model does not change, and q' is a distribution over z like any other: the bound is
a bound.

    B images   T steps   eps noise (T, B, *latents), N(0, I)
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from drawnet.models.sequential import Bound, StepModel, check_inputs
from drawnet.nn.distributions import Gaussian
from drawnet.nn.noise import ImageNoise

CHECKS = 4
"""Draws by which an image's shifts are accepted."""
ROWS = 100
"""Images refined at a time: all of their steps are kept for the backward pass."""
RATE = 0.02
"""Adam's rate at the first step; it falls linearly to 0.  Chosen on validation images, with EPSILON."""
EPSILON = 1.0
"""Adam's ε, nats: gradients of latents that carry nothing are noise far below it, and hardly count."""


def shifted_bound(model: StepModel, x: Tensor, eps: Tensor, shifts: Tensor, y: Tensor) -> Bound:
    """Estimate the bound under q' by one draw; shifts: (2, T, B, *latents), a and b.   (10)-(12)"""
    rates = []
    with model.unrolled():
        state = model.observe(x, model.start(check_inputs(model, eps, y, x)))
        for noise, a, b in zip(eps, *shifts, strict=True):
            q, state = model.infer(x, state)
            q = Gaussian(q.sample(a), q.log_sigma + b)
            z, kl = model.sample_and_kl(q, model.prior(state), noise)
            state = model.advance(z, state)
            rates.append(kl)
        likelihood = model.likelihood(state)
    return Bound(-likelihood.log_prob(x), torch.stack(rates), state)


def refine(model: StepModel, x: Tensor, y: Tensor, noise: ImageNoise, steps: int) -> Tensor:
    """Minimise every image's bound over its shifts by so many steps of Adam, from 0: (2, T, B, …).

    Each step draws z by noise of its own, 'refinement k'.  The images do not depend on each other.
    """
    size = (model.steps, len(x), *model.latents)
    shifts = torch.zeros(2, *size, device=model.device, requires_grad=True)
    adam = torch.optim.Adam([shifts], RATE, eps=EPSILON)
    with torch.enable_grad(), _frozen(model):
        for k in range(steps):
            adam.param_groups[0]["lr"] = RATE * (1 - k / steps)
            eps = noise.normal(f"refinement {k}", *size, axis=1)
            total = shifted_bound(model, x, eps, shifts, y).total.sum()
            (shifts.grad,) = torch.autograd.grad(total, [shifts])
            adam.step()
    return shifts.detach()


def refined_bound(
    model: StepModel, x: Tensor, y: Tensor, numbers: range, steps: int, seed: int
) -> Tensor:
    """Return the bound of each image under its refined q', nats (B,), by one draw of the latents.

    A true bound in expectation: its noise is that of the plain bound, 'latents', of which refinement
    knows nothing.  An image that gains nothing by other draws keeps its q, so that the bound is never
    worse but by chance.  With 0 steps it is the plain bound, bit for bit.
    """
    parts = []
    for start in range(0, len(x), ROWS):
        some = slice(start, start + ROWS)
        own = ImageNoise(seed, numbers[some], model.device)
        shifts = refine(model, x[some], y[some], own, steps)
        if steps:
            keep = worthwhile(model, x[some], y[some], own, shifts)
            shifts = torch.where(keep, shifts, torch.zeros_like(shifts))
        eps = own.normal("latents", *shifts.shape[1:], axis=1)
        with torch.no_grad():
            parts.append(shifted_bound(model, x[some], eps, shifts, y[some]).total)
    return torch.cat(parts)


@torch.no_grad()
def worthwhile(model: StepModel, x: Tensor, y: Tensor, noise: ImageNoise, shifts: Tensor) -> Tensor:
    """Return whether an image's shifts lower its bound, on average over some draws: (B, 1, …).

    Both bounds are of the same noise, 'check k'.
    """
    gain = x.new_zeros(len(x))
    for k in range(CHECKS):
        eps = noise.normal(f"check {k}", *shifts.shape[1:], axis=1)
        plain, refined = (
            shifted_bound(model, x, eps, s, y).total for s in (torch.zeros_like(shifts), shifts)
        )
        gain += (plain - refined).nan_to_num(-math.inf)
    return (gain > 0).view(-1, *[1] * (shifts.dim() - 3))


@contextmanager
def _frozen(model: StepModel) -> Iterator[None]:
    """Compute no gradients of the weights."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)
