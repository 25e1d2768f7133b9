"""What is written once over the step contract, on models small enough to be summed exactly."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import oracle
from drawnet.data import pipeline
from drawnet.models import sequential
from drawnet.models.base import LossOptions
from drawnet.models.sequential import bound, generate, log_weights, reconstruct
from drawnet.nn.noise import ImageNoise
from reference import images, installed, last, lively, noise


def tiny(shape=(1, 3, 4), std=0.8, seed=0, **config):
    """A float64 DRAW with random weights and windows that stay near the image."""
    sizes = {"steps": 3, "units": 3, "latents": 1, "read": 2, "write": 2, **config}
    model = lively("draw", shape, std=std, seed=seed, **sizes)
    with torch.no_grad():  # windows near the image: far off it the package clamps, not the paper
        for p in (model.heads.weight, model.heads.bias):
            p[model.parts[0] :] *= 0.4
    return model


def weights(model):
    return {name: p.detach().numpy() for name, p in model.state_dict().items()}


# ---- bounds and exact sums ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def exact():
    """(model, all 16 images of 2 × 2, their exact log-likelihoods by quadrature over z)."""
    model = tiny((1, 2, 2), seed=3, steps=2)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64)
    every = every.view(16, 1, 2, 2)
    slow = oracle.Draw(weights(model), read=2, write=2, latents=1)
    p = slow.probabilities(every.numpy(), steps=2, nodes=16)
    assert quadrature(model, every, nodes=16).exp().numpy() == pytest.approx(p, rel=1e-8)
    truth = quadrature(model, every, nodes=200)
    assert quadrature(model, every, nodes=150).numpy() == pytest.approx(truth.numpy(), rel=1e-3)
    return model, every, truth


def quadrature(model, x, nodes):
    """log p(x) from the package's own decoder and likelihood, at the nodes of the quadrature."""
    points, mass = np.polynomial.hermite_e.hermegauss(nodes)
    grid = torch.tensor(list(itertools.product(points, repeat=2))).T[..., None]
    log_mass = torch.tensor(list(itertools.product(np.log(mass / mass.sum()), repeat=2))).sum(1)
    likelihood = model.likelihood(last(generate(model, grid)))
    every = [likelihood.log_prob(image[None]) + log_mass for image in x]
    return torch.stack(every).logsumexp(1).detach()


def test_the_exact_likelihood_sums_to_one_over_all_images(exact):
    assert exact[2].exp().sum().item() == pytest.approx(1, rel=1e-10)


def test_bound_is_below_the_importance_weighted_bound_is_below_the_likelihood(exact):
    model, every, truth = exact
    draws, k = 3000, 10
    x = every.repeat_interleave(draws, 0)
    eps = noise(model, 16 * draws)
    with torch.no_grad():
        one = -bound(model, x, eps).total.view(16, draws)
    log_w = log_weights(model, x, eps).view(16, draws)
    iw = (log_w.view(16, -1, k).logsumexp(-1) - np.log(k)).mean(1)
    error = log_w.std(1) / draws**0.5
    # Both are estimates of one number, and lie below the truth by a margin that k closes.
    assert ((one.mean(1) - log_w.mean(1)).abs() < 4 * error).all()
    assert (log_w.mean(1) < iw - 4 * error).all()
    assert (iw < truth - error).any()
    assert (iw < truth + 4 * error).all()
    # E[p(x, z)/q(z | x)] = p(x), whatever the encoder.
    ratio = (log_w - truth[:, None]).exp()
    assert ((ratio.mean(1) - 1).abs() < 5 * ratio.std(1) / draws**0.5).all()
    assert ratio.std(1).max() / draws**0.5 < 0.1


def test_total_is_distortion_and_all_rates():
    model = tiny()
    result = bound(model, images(model), noise(model))
    assert result.rate.shape == (3, 4)
    assert result.distortion.shape == result.total.shape == (4,)
    assert torch.allclose(result.total, result.distortion + result.rate[0] + result.rate[1:].sum(0))


def test_the_loss_is_the_bound_with_its_rate_weighted():
    model, given = tiny(likelihood="logistic").float(), ImageNoise(0, range(4))
    x = images(model)
    b = bound(model, x, given.normal("latents", 3, 4, 1, axis=1))
    for training in (True, False):
        loss, metrics = model.train(training).loss(
            x, torch.zeros(4, 0), given, LossOptions(kl_weight=0.3)
        )
        torch.testing.assert_close(loss, b.distortion + 0.3 * b.rate.sum(0))
        expected = {"nats": b.total, "rate": b.rate, "distortion": b.distortion}
        if not training:
            mean = model.likelihood(b.state).mean
            crossed = F.binary_cross_entropy(mean, x, reduction="none")
            expected["cross_entropy"] = crossed.sum((1, 2, 3))
        assert metrics.keys() == expected.keys()
        for name, values in expected.items():
            torch.testing.assert_close(metrics[name], values)


# ---- sampling and reconstruction ----------------------------------------------------------------


def test_samples_come_from_the_prior_and_the_decoder_alone():
    model = tiny()
    eps = noise(model, 5)
    before = [state.c for state in generate(model, eps)]
    slow = oracle.Draw(weights(model), read=2, write=2, latents=1)
    for b in range(5):
        expected = slow.canvas(eps[:, b].numpy())
        assert before[-1][b].numpy() == pytest.approx(expected, rel=1e-9)
    assert len(before) == model.steps
    # Every step has its own noise.
    for t in range(3):
        other = eps.clone()
        other[t] += 1
        assert not torch.allclose(last(generate(model, other)).c, before[-1])


def test_a_reconstruction_is_what_the_bound_draws():
    model = tiny()
    x, eps = images(model, 5), noise(model, 5)
    states = list(reconstruct(model, x, eps))
    assert len(states) == 3
    result = bound(model, x, eps)
    for ours, theirs in zip(states[-1], result.state, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12)
    assert torch.allclose(-model.likelihood(states[-1]).log_prob(x), result.distortion)
    assert not states[-1].c.requires_grad
    assert not torch.allclose(last(reconstruct(model, 1 - x, eps)).c, states[-1].c)


def test_every_step_takes_its_own_noise():
    model = tiny()
    x, eps = images(model, 2), noise(model, 2)
    base = bound(model, x, eps)
    for t in range(3):
        other = eps.clone()
        other[t] += 1
        moved = bound(model, x, other)
        assert (moved.distortion - base.distortion).abs().min() > 1e-6
        # The rates up to t know nothing of that noise, the later ones do.
        assert torch.equal(moved.rate[: t + 1], base.rate[: t + 1])
        assert ((moved.rate[t + 1 :] - base.rate[t + 1 :]).abs() > 1e-9).all()


# ---- recomputation ------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
def test_recomputation_keeps_fewer_tensors(fused):
    model = tiny((1, 4, 3), 0.4, steps=16, latents=2).float()
    model = installed(model) if fused else model
    x, eps = images(model, 3), noise(model, 3)
    kept = []
    for k in (0, 4):
        held = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, h=held: h.append(t) or t, _same):
            bound(model, x, eps, recompute=k)
        kept.append(sum(t.numel() for t in held))
    assert kept[1] < 0.5 * kept[0]


def _same(t):
    return t


# ---- labels -------------------------------------------------------------------------------------


def test_one_hot():
    labels = torch.tensor([2, 0, 2])
    assert pipeline.one_hot(labels, 3).tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert pipeline.one_hot(labels, 0).shape == (3, 0)
    assert pipeline.one_hot(labels[:0], 3).shape == (0, 3)
    for wrong in ([3], [-1]):
        with pytest.raises(ValueError, match="from 0 to 2"):
            pipeline.one_hot(torch.tensor(wrong), 3)


@pytest.mark.parametrize("prior", ["standard", "learned"])
def test_an_encoding_is_the_noise_that_draws_the_same(prior):
    model = tiny((1, 5, 4), steps=4, latents=3, prior=prior)
    x, eps = images(model, 6), noise(model, 6)
    redrawn = list(sequential.redraw(model, x, eps))
    again = list(generate(model, sequential.encode(model, x, eps)))
    for one, two in zip(redrawn, again, strict=True):
        torch.testing.assert_close(one.state.c, two.c, rtol=1e-12, atol=1e-12)
    b = bound(model, x, eps)
    torch.testing.assert_close(torch.stack([r.rate for r in redrawn]), b.rate)
    assert not torch.allclose(sequential.encode(model, x, eps), eps)
