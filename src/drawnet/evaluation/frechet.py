"""The Fréchet distance between two sets of images, over features of a classifier trained here.

Each set's features are modelled as a Gaussian, and the Gaussians compared (Dowson & Landau 1982):

    d² = ‖μ - ν‖² + tr(A + B - 2 (A B)^½)         N(μ, A) and N(ν, B);  F features

Heusel et al. 2017 (arXiv 1706.08500) use another network's features, and their figures are not
comparable with these.  d² of few samples is biased upwards, by an amount that falls with their number:
compare only figures of equally many samples.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """Mean (F,) and covariance (F, F) of a set of features, float64."""

    mean: Tensor
    covariance: Tensor


def moments(features: Tensor) -> Moments:
    """Return the moments of features (n, F), n at least 2."""
    f = features.double()
    return Moments(f.mean(0), torch.cov(f.T).reshape(f.shape[1], f.shape[1]))


def distance(a: Moments, b: Moments) -> float:
    """Return d² between two Gaussians.

    tr (A B)^½ = Σ √λ over the eigenvalues of A^½ B A^½, which is symmetric and has those of A B;
    eigenvalues made negative by rounding count as 0.
    """
    values, vectors = torch.linalg.eigh(a.covariance)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    mixed = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp_min(0).sqrt().sum()
    traces = a.covariance.trace() + b.covariance.trace()
    return max(0.0, float((a.mean - b.mean).square().sum() + traces - 2 * mixed))
