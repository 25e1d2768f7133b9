"""The Fréchet distance where the answer is known."""

import pytest
import torch

from drawnet.evaluation.frechet import Moments, distance, moments


def gaussian(mean, covariance):
    return Moments(*(torch.tensor(part, dtype=torch.float64) for part in (mean, covariance)))


def test_moments_are_the_means_and_covariances():
    torch.manual_seed(0)
    f = torch.randn(50, 3)
    m = moments(f)
    assert m.mean.dtype == torch.float64
    torch.testing.assert_close(m.mean, f.double().mean(0))
    centred = f.double() - f.double().mean(0)
    torch.testing.assert_close(m.covariance, centred.T @ centred / 49)
    assert moments(f[:, :1]).covariance.shape == (1, 1)


def test_diagonal_gaussians():
    """‖μ - ν‖² + Σ (√a - √b)²."""
    a = gaussian([1.0, 2.0, 0.0], [[4.0, 0, 0], [0, 9.0, 0], [0, 0, 0.0]])
    b = gaussian([1.0, 0.0, 3.0], [[1.0, 0, 0], [0, 16.0, 0], [0, 0, 0.0]])
    assert distance(a, b) == pytest.approx(4 + 9 + 1 + 1)
    assert distance(b, a) == pytest.approx(15)


def test_it_is_the_optimal_transport_between_gaussians():
    """x -> L x + m takes N(0, I) to N(m, L L) with E‖x - (L x + m)‖² = ‖I - L‖² + ‖m‖²."""
    torch.manual_seed(0)
    root = torch.randn(5, 5, dtype=torch.float64)
    spread = root @ root.T + torch.eye(5)
    m = torch.randn(5, dtype=torch.float64)
    one = Moments(torch.zeros(5).double(), torch.eye(5).double())
    other = Moments(m, spread @ spread)
    expected = (torch.eye(5) - spread).square().sum() + m.square().sum()
    assert distance(one, other) == pytest.approx(expected.item())
    turn = torch.linalg.qr(root).Q  # the same between turned copies, which no longer commute
    a = Moments(turn @ m, turn @ spread @ turn.T)
    b = Moments(torch.zeros(5).double(), spread + 1)
    back = Moments(turn.T @ a.mean, turn.T @ a.covariance @ turn)
    turned = Moments(turn.T @ b.mean, turn.T @ b.covariance @ turn)
    assert distance(a, b) == pytest.approx(distance(back, turned))


def test_fewer_samples_than_features_are_no_trouble():
    torch.manual_seed(0)
    f = torch.randn(10, 64)
    assert distance(moments(f), moments(f)) == pytest.approx(0, abs=1e-9)
    near = distance(moments(torch.randn(4000, 8)), moments(torch.randn(4000, 8)))
    assert 0 < near < 0.05
    assert distance(
        moments(torch.randn(4000, 8) + 1), moments(torch.randn(4000, 8))
    ) == pytest.approx(8, abs=0.5)
