"""Progressive coding: what of an image is known after t of T steps, and the rate at which it is known.

    z_1..t   ~ q(z_s | x, z_<s)          what has arrived
    z_t+1..T by the prior p(z_s | z_<s)  at its mean, or drawn from it
    picture  E[x | z_1..T]               rate  Σ_s≤t KL(q_s ‖ p_s)

The rate is ideal.  Bits back reaches it for all T steps with the image itself, not for a part: see
docs/compression.md.

    n images   T steps
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from drawnet.evaluation.likelihood import Measure, stderr
from drawnet.models.base import batches
from drawnet.models.latent import last_mean, latent_noise
from drawnet.models.sequential import StepModel, redraw


class Progress(NamedTuple):
    """Images after 0, 1, …, T steps."""

    bits: Tensor
    """Σ_s≤t KL(q_s ‖ p_s) / ln 2, by one draw of z, (T+1, n) float64."""
    images: Tensor
    """E[x | z_1..T] with z_t+1..T of the prior, (T+1, n, C, H, W) in [0, 1]."""


@torch.no_grad()
def progressive(
    model: StepModel, images: Any, y: Any = None, *, seed: int = 0, temperature: float = 0.0
) -> Progress:
    """Return what is known of images after each step, and its ideal bits.

    images, y: as for `LatentModel.encode`, whose draw of z arrives step by step.  The later steps
    are drawn from the prior with its sigma scaled by `temperature`: by default at its mean, which errs
    less; 1 draws samples, after 0 steps those of `LatentModel.sample`.
    """
    x, y = model.check_images(images), model.check_labels(y, len(images))
    parts = []
    for numbers in batches(len(x)):
        rows = slice(numbers.start, numbers.stop)
        eps = latent_noise(model, seed, "redraw", numbers)
        steps = list(redraw(model, x[rows].to(model.device), eps, y[rows]))
        rate = torch.stack([step.rate for step in steps]).cpu().double() / math.log(2)
        arrived = torch.stack([step.noise for step in steps])  # (z - mu_p) / sigma_p, for any p
        later = temperature * latent_noise(model, seed, "sample", numbers)
        bits = torch.cat([torch.zeros_like(rate[:1]), rate.cumsum(0)])
        pictures = [
            last_mean(model, model.generate_steps(torch.cat([arrived[:t], later[t:]]), y[rows]))
            for t in range(model.steps + 1)
        ]
        parts.append(Progress(bits, torch.stack(pictures)))
    return Progress(*(torch.cat(each, 1) for each in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Point:
    """A point of a rate-distortion curve: means over images with their standard errors."""

    bits: Measure
    """Bits an image."""
    mse: Measure
    """Mean squared error of a value in [0, 1]."""

    @property
    def psnr(self) -> Measure:
        """Peak signal-to-noise ratio of that mean, dB: -10 log10 mse; infinite without error."""
        mse, error = self.mse.mean, self.mse.stderr
        scale = 10 / math.log(10)
        if not mse:
            return Measure(math.inf)
        return Measure(-scale * math.log(mse), None if error is None else scale * error / mse)


def point(x: Tensor, bits: Tensor, images: Tensor) -> Point:
    """Compare images with x, both (n, C, H, W); bits: of each, (n,)."""
    bits, mse = bits.double(), ((images.double() - x) ** 2).flatten(1).mean(1)
    return Point(*(Measure(k.mean().item(), stderr(k)) for k in (bits, mse)))


def curve(x: Tensor, progress: Progress) -> Sequence[Point]:
    """Return the point of each number of steps, 0 to T, for images x (n, C, H, W) in [0, 1]."""
    return [point(x, bits, images) for bits, images in zip(*progress, strict=True)]
