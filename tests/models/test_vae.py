"""The VAE is the formula of its paper, and a step model like any other."""

import math

import pytest
import torch
from torch import nn

from drawnet.data.pipeline import one_hot
from drawnet.errors import UserError
from drawnet.models.sequential import bound, generate, log_weights, reconstruct
from drawnet.models.vae import VAE, VAEConfig
from drawnet.nn import distributions

KINDS = ["bernoulli", "logistic", "mixture", "cross_entropy"]
SHAPE = (2, 4, 3)


def lively(dtype=torch.float64, scale=0.4, **config):
    """Weights far from fresh ones, so that every part has a say."""
    model = VAE(VAEConfig(**{"units": 7, "latents": 3, **config}), SHAPE).to(dtype)
    torch.manual_seed(1)
    for p in model.parameters():
        nn.init.normal_(p, std=scale)
    return model


def inputs(model, batch=5):
    torch.manual_seed(2)
    x = torch.rand(batch, *SHAPE)
    x = (x < 0.4).double() if model.config.likelihood == "bernoulli" else (x * 255).round() / 255
    dtype = model.write.bias.dtype
    return x.to(dtype), torch.randn(1, batch, *model.latents).to(dtype)


def layers(model, name):
    return [part for part in getattr(model, name) if hasattr(part, "weight")]


def written_out(model, x, eps, y):
    """(distortion, rate), (B,) each, by the equations: plain products, float64."""
    h = torch.cat((2 * x.flatten(1) - 1, y), 1).double()
    for layer in layers(model, "encoder"):
        h = torch.tanh(h @ layer.weight.double().T + layer.bias.double())
    mu, log_sigma = (h @ model.q.weight.double().T + model.q.bias.double()).chunk(2, 1)
    z = mu + log_sigma.exp() * eps[0].double()
    rate = 0.5 * (mu**2 + (2 * log_sigma).exp() - 2 * log_sigma - 1).sum(1)
    h = torch.cat((z, y.double()), 1)
    for layer in layers(model, "decoder"):
        h = torch.tanh(h @ layer.weight.double().T + layer.bias.double())
    c = (h @ model.write.weight.double().T + model.write.bias.double()).view(len(x), -1, 4, 3)
    x = x.double()
    if model.config.likelihood in ("bernoulli", "cross_entropy"):
        p = torch.sigmoid(c)
        return -(x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3)), rate
    return -distributions.pixels(model.config.likelihood, c, model.config.components).log_prob(
        x
    ), rate


@pytest.mark.parametrize("likelihood", KINDS)
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("depth", [1, 2])
def test_the_bound_is_the_papers(likelihood, classes, depth):
    model = lively(likelihood=likelihood, classes=classes, layers=depth)
    x, eps = inputs(model)
    y = one_hot(torch.arange(5) % 3, classes).double()
    distortion, rate = written_out(model, x, eps, y)
    ours = bound(model, x, eps, y)
    assert ours.rate.shape == (1, 5)
    torch.testing.assert_close(ours.distortion, distortion, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.rate[0], rate, rtol=1e-9, atol=1e-9)


def test_float32_agrees_and_bfloat16_is_near():
    model = lively(torch.float32)
    x, eps = inputs(model)
    distortion, rate = written_out(model, x, eps, x.new_zeros(5, 0))
    exact, rounded = (bound(model, x, eps, precision=kind) for kind in (None, torch.bfloat16))
    torch.testing.assert_close(exact.total.double(), distortion + rate, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rounded.total, exact.total, rtol=0.02, atol=0.02)
    assert not torch.equal(rounded.total, exact.total)


def test_the_bound_is_below_log_p_by_quadrature():
    """With one latent, p(x) = ∫ p(z) p(x|z) dz is a sum over a fine grid."""
    model = lively(latents=1)
    x, _ = inputs(model, 4)
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
    noise = torch.randn(1, draws, 1, dtype=torch.float64)
    for one, log_p in zip(x, exact, strict=True):
        log_w = log_weights(model, one.expand(draws, -1, -1, -1), noise)
        error = (log_w - log_p).exp().std().item() / draws**0.5
        assert (log_w - log_p).exp().mean().item() == pytest.approx(1, abs=5 * error)
        assert log_w.mean() < log_p


@pytest.mark.parametrize("likelihood", KINDS)
def test_a_new_model_can_learn_with_all_its_parameters(likelihood):
    model = VAE(VAEConfig(units=8, latents=3, layers=2, likelihood=likelihood), SHAPE)
    x, eps = inputs(model)
    bound(model, x, eps).total.mean().backward()
    for name, p in model.named_parameters():
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 1e-7, name


@pytest.mark.parametrize("likelihood", KINDS)
def test_the_canvas_starts_at_the_data_mean(likelihood):
    model = VAE(VAEConfig(likelihood=likelihood), SHAPE)
    mean = torch.rand(SHAPE) * 0.9 + 0.05
    model.init_from_mean(mean)
    error = (model.likelihood(model.start(torch.empty(1, 0))).mean[0] - mean).abs().max()
    assert error < (0.15 if likelihood == "mixture" else 1e-5)  # components stand apart


def test_samples_are_the_decoders_of_the_prior():
    model = lively()
    x, eps = inputs(model)
    (drawn,), (redrawn,) = generate(model, eps), reconstruct(model, x, eps)
    h = eps[0]
    for layer in layers(model, "decoder"):
        h = torch.tanh(h @ layer.weight.T + layer.bias)
    c = h @ model.write.weight.T + model.write.bias
    torch.testing.assert_close(drawn.c.flatten(1), c)
    assert not torch.allclose(drawn.c, redrawn.c)


@pytest.mark.parametrize(
    "wrong",
    [{name: 0} for name in ("units", "layers", "latents", "components")] + [{"classes": -1}],
)
def test_senseless_sizes_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        VAEConfig(**wrong)
