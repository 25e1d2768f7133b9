"""Refinement of q: a bound, tighter than the plain one, by gradients that are right."""

import pytest
import torch

from drawnet import models
from drawnet.errors import UserError
from drawnet.evaluation import refine
from drawnet.evaluation.likelihood import evaluate, measure
from drawnet.evaluation.refine import refined_bound, shifted_bound
from drawnet.models.sequential import StepModel
from drawnet.nn.noise import ImageNoise
from reference import fresh, images, installed, lively, noise, view

SIZES = {
    "draw": {"steps": 3, "units": 8, "latents": 3, "read": 2, "write": 3, "prior": "learned"},
    "draw features": {"steps": 2, "units": 8, "latents": 3, "read": 2, "write": 3, "features": 2},
    "conv_draw": {"steps": 2},
    "vae": {"latents": 4, "units": 12},
}
STEP_MODELS = sorted(k for k in models.names() if issubclass(models.module(k).Model, StepModel))


def test_shifts_are_those_of_the_formula():
    """VAE: q' written out."""
    model = lively("vae", (1, 4, 4), **SIZES["vae"])
    x, eps = images(model), noise(model)
    shifts = torch.randn(2, *eps.shape, dtype=torch.float64)
    q, state = model.infer(x, model.start(x.new_zeros(4, 0)))
    sigma = q.log_sigma.exp()
    mu, sigma = q.mu + sigma * shifts[0, 0], sigma * shifts[1, 0].exp()
    kl = 0.5 * (mu**2 + sigma**2 - 1).sum(1) - sigma.log().sum(1)
    likelihood = model.likelihood(model.advance(mu + sigma * eps[0], state))
    found = shifted_bound(model, x, eps, shifts, x.new_zeros(4, 0))
    torch.testing.assert_close(found.rate[0], kl)
    torch.testing.assert_close(found.distortion, -likelihood.log_prob(x))


@pytest.mark.parametrize("kind", SIZES)
def test_gradients_of_the_shifts(kind):
    """Against finite differences, in float64."""
    model = lively(kind.split()[0], (1, 8, 8), std=0.2, **SIZES[kind])
    x, eps = images(model, 2), noise(model, 2)
    shifts = (0.1 * torch.randn(2, *eps.shape, dtype=torch.float64)).requires_grad_()
    y, direction = x.new_zeros(2, 0), torch.randn_like(shifts)
    total = shifted_bound(model, x, eps, shifts, y).total.sum()
    (gradient,) = torch.autograd.grad(total, [shifts])
    with torch.no_grad():
        ahead, behind = (
            shifted_bound(model, x, eps, shifts + h * direction, y).total.sum()
            for h in (1e-5, -1e-5)
        )
    expected = ((ahead - behind) / 2e-5).item()
    assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", STEP_MODELS)
def test_no_steps_are_the_plain_bound(kind):
    """Bit for bit."""
    model = lively(kind, (1, 16, 16), torch.float32, 0.1, **SIZES.get(kind, {})).eval()
    x = images(model, 6)
    plain = measure(model, view(x.byte()))["nats"]
    found = refined_bound(model, x, x.new_zeros(6, model.classes), range(6), 0, 0)
    assert torch.equal(found.double(), plain)


@pytest.mark.parametrize("kind", STEP_MODELS)
def test_some_steps_are_never_worse(kind):
    """Beyond the standard error of the difference."""
    model = lively(kind, (1, 16, 16), torch.float32, 0.1, **SIZES.get(kind, {})).eval()
    x = images(model, 12)
    gain = measure(model, view(x.byte()), refine=4)
    gain = gain["nats"] - gain["refined"]
    assert gain.mean() > -2 * gain.std() / 12**0.5


def test_no_steps_are_the_plain_bound_with_kernels():
    model = installed(fresh("draw", (1, 8, 8), **{**SIZES["draw"], "prior": "standard"})).eval()
    x = images(model, 6)
    plain = measure(model, view(x.byte()))["nats"]
    found = refined_bound(model, x, x.new_zeros(6, 0), range(6), 0, 0)
    assert torch.equal(found.double(), plain)


@pytest.fixture(scope="module")
def poor():
    """A VAE whose decoder is one, and whose encoder knows nothing of its images."""
    model = lively("vae", (1, 4, 4), torch.float32, 1.0, **SIZES["vae"]).eval()
    with torch.no_grad():
        for p in (model.q.weight, model.q.bias):
            p.zero_()
    return model


def test_the_refined_bound_is_tighter_and_a_bound(poor):
    """Between the plain one and a tight estimate of -log p(x)."""
    x = images(poor, 64)
    held_out = view(x.byte())
    e = evaluate(poor, held_out, importance_samples=2000, refine=100, rows=2000)
    assert e.refined_nats < e.elbo_nats - 5 * e.refined_gap_stderr
    assert e.refined_nats > e.iw_nats
    assert e.refine_steps == 100 and e.refined_stderr > 0 and e.iw_gap_stderr > 0


def test_images_are_refined_each_by_itself(poor, monkeypatch):
    x = images(poor, 7)
    y = x.new_zeros(7, 0)
    whole = refined_bound(poor, x, y, range(7), 5, 0)
    monkeypatch.setattr(refine, "ROWS", 3)
    torch.testing.assert_close(refined_bound(poor, x, y, range(7), 5, 0), whole)
    alone = refined_bound(poor, x[4:5], y[:1], range(4, 5), 5, 0)
    torch.testing.assert_close(alone, whole[4:5])


def test_refinement_never_sees_the_noise_of_the_bound(poor, monkeypatch):
    drawn = []
    normal = ImageNoise.normal

    def noted(self, purpose, *shape, axis=0):
        drawn.append(purpose)
        return normal(self, purpose, *shape, axis=axis)

    monkeypatch.setattr(ImageNoise, "normal", noted)
    x = images(poor, 2)
    refined_bound(poor, x, x.new_zeros(2, 0), range(2), 3, 0)
    *refinement, last = drawn
    assert last == "latents" and "latents" not in refinement
    assert len(set(refinement)) == len(refinement) > 3


def test_images_that_gain_nothing_keep_their_q(poor, monkeypatch):
    """With a rate at which Adam leaves every good place, the bound stays what it was."""
    monkeypatch.setattr(refine, "RATE", 100.0)
    x = images(poor, 6)
    plain = measure(poor, view(x.byte()))["nats"]
    found = refined_bound(poor, x, x.new_zeros(6, 0), range(6), 3, 0)
    assert torch.equal(found.double(), plain)


def test_the_weights_stay_trainable_and_as_they_are(poor):
    before = [p.clone() for p in poor.parameters()]
    x = images(poor, 2)
    refined_bound(poor, x, x.new_zeros(2, 0), range(2), 2, 0)
    for p, old in zip(poor.parameters(), before, strict=True):
        assert p.requires_grad and torch.equal(p, old) and p.grad is None


def test_only_a_bound_by_gaussian_latents_is_refined():
    darn = fresh("darn", (1, 4, 4), hidden=3).eval()
    cost = fresh("vae", (1, 4, 4), likelihood="cross_entropy", **SIZES["vae"]).eval()
    for model in (darn, cost):
        with pytest.raises(UserError, match="leave out --refine"):
            evaluate(model, view(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)), refine=2)
