"""The VAE is the formula of its paper, and a step model like any other."""

import math

import pytest
import torch

import reference
from drawnet.data.pipeline import one_hot
from drawnet.models.sequential import bound, generate, log_weights, reconstruct
from drawnet.nn import distributions
from reference import LIKELIHOODS, images, noise


def lively(**config):
    sizes = {"units": 7, "latents": 3, **config}
    return reference.lively("vae", (2, 4, 3), std=0.4, **sizes)


def layers(model, name):
    return [part for part in getattr(model, name) if hasattr(part, "weight")]


def written_out(model, x, eps, y):
    """(distortion, rate), (B,) each, by the equations: plain products."""
    h = torch.cat((2 * x.flatten(1) - 1, y), 1)
    for layer in layers(model, "encoder"):
        h = torch.tanh(h @ layer.weight.T + layer.bias)
    mu, log_sigma = (h @ model.q.weight.T + model.q.bias).chunk(2, 1)
    z = mu + log_sigma.exp() * eps[0]
    rate = 0.5 * (mu**2 + (2 * log_sigma).exp() - 2 * log_sigma - 1).sum(1)
    h = torch.cat((z, y), 1)
    for layer in layers(model, "decoder"):
        h = torch.tanh(h @ layer.weight.T + layer.bias)
    c = (h @ model.write.weight.T + model.write.bias).view(len(x), -1, 4, 3)
    if model.config.likelihood in ("bernoulli", "cross_entropy"):
        p = torch.sigmoid(c)
        return -(x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3)), rate
    p = distributions.pixels(model.config.likelihood, c, model.config.components)
    return -p.log_prob(x), rate


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("depth", [1, 2])
def test_the_bound_is_the_papers(likelihood, classes, depth):
    model = lively(likelihood=likelihood, classes=classes, layers=depth)
    x, eps = images(model, 5), noise(model, 5)
    y = one_hot(torch.arange(5) % 3, classes).double()
    distortion, rate = written_out(model, x, eps, y)
    ours = bound(model, x, eps, y)
    assert ours.rate.shape == (1, 5)
    torch.testing.assert_close(ours.distortion, distortion, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.rate[0], rate, rtol=1e-9, atol=1e-9)


def test_the_bound_is_below_log_p_by_quadrature():
    """With one latent, p(x) = ∫ p(z) p(x|z) dz is a sum over a fine grid."""
    model = lively(latents=1)
    x = images(model)
    grid = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    state = model.advance(grid[:, None], model.start(torch.empty(len(grid), 0)))
    p = model.likelihood(state)
    prior = -0.5 * grid**2 - 0.5 * math.log(2 * math.pi)
    step = math.log(18 / 4000)
    exact = torch.stack(
        [(p.log_prob(one.expand(4001, -1, -1, -1)) + prior).logsumexp(0) for one in x]
    )
    exact = exact + step
    draws = 4000
    eps = noise(model, draws)
    for one, log_p in zip(x, exact, strict=True):
        log_w = log_weights(model, one.expand(draws, -1, -1, -1), eps)
        error = (log_w - log_p).exp().std().item() / draws**0.5
        assert (log_w - log_p).exp().mean().item() == pytest.approx(1, abs=5 * error)
        assert log_w.mean() < log_p


def test_samples_are_the_decoders_of_the_prior():
    model = lively()
    x, eps = images(model), noise(model)
    (drawn,), (redrawn,) = generate(model, eps), reconstruct(model, x, eps)
    h = eps[0]
    for layer in layers(model, "decoder"):
        h = torch.tanh(h @ layer.weight.T + layer.bias)
    c = h @ model.write.weight.T + model.write.bias
    torch.testing.assert_close(drawn.c.flatten(1), c)
    assert not torch.allclose(drawn.c, redrawn.c)
