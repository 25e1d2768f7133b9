"""Morphs: interpolate between two images in latent space."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from drawnet.drawing.sample import _noise, request_labels
from drawnet.models import sequential
from drawnet.models.sequential import StepModel


def morphing(
    model: StepModel, pair: Tensor, n: int, *, labels: Sequence[int] = (), seed: int = 0
) -> Iterator[Any]:
    """Yield the states of n images interpolated between the two of a pair (2, C, H, W).

    Each is encoded as the noise that redraws it, both with the same posterior noise, so that what
    neither image determines stays the same; between them the path is `spherical`, and labels are
    interpolated linearly.
    """
    eps = _noise(model, seed, "morph", range(1)).repeat(1, 2, *[1] * len(model.latents))
    y = request_labels(model, labels, range(2))
    start, end = sequential.encode(model, pair.to(model.device), eps, y).cpu().unbind(1)
    share = torch.linspace(0, 1, n)
    fading = (1 - share)[:, None] * y[0] + share[:, None] * y[1]
    path = spherical(start, end, share).to(model.device)
    return sequential.generate(model, path, fading)


def spherical(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Interpolate from a to b along the great circle: (T, *latents) twice and (n,) -> (T, n, *latents).

    (sin((1 - s) θ) a + sin(s θ) b) / sin θ, θ the angle between them (Shoemake 1985).  A straight
    line would pass through points nearer to the origin than typical noise.
    """
    cosine = (a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-12)
    theta = torch.arccos(cosine.double().clamp(-1, 1)).clamp_min(1e-6)
    s = share.double().view(-1, *[1] * (a.dim() - 1))
    one, other = (torch.sin(part * theta) / torch.sin(theta) for part in (1 - s, s))
    return (one * a[:, None] + other * b[:, None]).to(a)
