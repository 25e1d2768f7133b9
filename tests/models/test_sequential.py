"""What is written once over the step contract, on models small enough to be summed exactly."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import oracle
from drawnet.data import pipeline
from drawnet.models import sequential
from drawnet.models.draw import Draw, DrawConfig
from drawnet.models.sequential import bound, generate, log_weights, reconstruct
from drawnet.nn.distributions import Gaussian


def tiny(seed=0, shape=(1, 2, 2), likelihood="bernoulli", scale=0.8, **config):
    """A float64 DRAW with random weights and windows that stay near the image."""
    sizes = {"steps": 2, "units": 3, "latents": 1, "read": 2, "write": 2, **config}
    model = Draw(DrawConfig(likelihood=likelihood, **sizes), shape).double()
    torch.manual_seed(seed)  # after the model has drawn its own first weights, however many
    for p in model.parameters():
        nn.init.normal_(p, std=scale)
    with torch.no_grad():  # windows near the image: far off it the package clamps, not the paper
        for p in (model.heads.weight, model.heads.bias):
            p[model.parts[0] :] *= 0.4
    return model


def weights(model):
    return {name: p.detach().numpy() for name, p in model.state_dict().items()}


def images(model, batch, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, *model.shape, generator=generator, dtype=torch.float64)
    if model.config.likelihood == "logistic":
        return (x * 255).round() / 255
    return (x < 0.5).double()


def noise(model, batch, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(model.steps, batch, *model.latents, generator=generator).double()


def last(states):
    *_, state = states
    return state


# ---- bounds and exact sums ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def exact():
    """(model, all 16 images of 2 × 2, their exact log-likelihoods by quadrature over z)."""
    model = tiny(seed=3)
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
    model = tiny(steps=3)
    result = bound(model, images(model, 4), noise(model, 4))
    assert result.rate.shape == (3, 4)
    assert result.distortion.shape == result.total.shape == (4,)
    assert torch.allclose(result.total, result.distortion + result.rate[0] + result.rate[1:].sum(0))


# ---- a learned prior ----------------------------------------------------------------------------


class Learned(Draw):
    """DRAW whose prior looks at the decoder; its mean and deviation are nowhere near N(0, I)."""

    def prior(self, state):
        h = state.h_dec.sum(1, keepdim=True)
        return Gaussian(0.8 + 0.5 * h, -0.5 + 0.3 * h)


def test_a_learned_prior_is_used_by_bound_and_weights_and_sampling():
    model = tiny(seed=3)
    model.__class__ = Learned
    draws = 20_000
    x = images(model, 1).expand(draws, -1, -1, -1)
    eps = noise(model, draws)
    with torch.no_grad():
        one = -bound(model, x, eps).total
    log_w = log_weights(model, x, eps)
    error = log_w.std().item() / draws**0.5
    assert one.mean().item() == pytest.approx(log_w.mean().item(), abs=4 * error)
    states = generate(model, noise(model, draws, seed=5))
    p = model.likelihood(last(states)).log_prob(x).exp()
    ratio = log_w.exp()
    error = ((p.var() + ratio.var()) / draws).sqrt().item()
    assert ratio.mean().item() == pytest.approx(p.mean().item(), abs=5 * error)
    plain = tiny(seed=3)
    assert not torch.allclose(log_weights(plain, x[:9], eps[:, :9]), log_w[:9], atol=0.1)


# ---- sampling and reconstruction ----------------------------------------------------------------


def test_samples_come_from_the_prior_and_the_decoder_alone():
    model = tiny(shape=(1, 3, 4), steps=3)
    eps = noise(model, 5)
    before = [state.c for state in generate(model, eps)]
    slow = oracle.Draw(weights(model), read=2, write=2, latents=1)
    for b in range(5):
        expected = slow.canvas(eps[:, b].numpy())
        assert before[-1][b].numpy() == pytest.approx(expected, rel=1e-9)
    assert len(before) == model.steps
    with torch.no_grad():
        for module in (model.encoder, model.q):
            for p in module.parameters():
                p.normal_()
        model.heads.weight[-5:].normal_()  # the read window
        model.h_enc.normal_()
    after = [state.c for state in generate(model, eps)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    # Every step has its own noise.
    for t in range(3):
        other = eps.clone()
        other[t] += 1
        assert not torch.allclose(last(generate(model, other)).c, before[-1])


def test_a_reconstruction_is_what_the_bound_draws():
    model = tiny(shape=(1, 3, 4), steps=3)
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
    model = tiny(shape=(1, 3, 4), steps=3)
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


def test_images_of_a_batch_do_not_meet():
    model = tiny(shape=(1, 3, 4), steps=3, latents=2)
    x, eps = images(model, 4), noise(model, 4)
    base = bound(model, x, eps)
    other = x.clone()
    other[2] = 1 - other[2]
    moved = bound(model, other, eps)
    rest = [0, 1, 3]
    assert torch.equal(moved.total[rest], base.total[rest])
    assert torch.equal(moved.rate[:, rest], base.rate[:, rest])
    assert moved.total[2] != base.total[2]
    for b in range(4):
        alone = bound(model, x[b : b + 1], eps[:, b : b + 1])
        assert alone.total.item() == pytest.approx(base.total[b].item(), rel=1e-10)


# ---- recomputation ------------------------------------------------------------------------------


@pytest.mark.parametrize("recompute", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_recomputation_changes_nothing(recompute, precision):
    model = tiny(shape=(1, 4, 3), steps=5, latents=2, scale=0.4).float()
    x, eps = images(model, 3).float(), noise(model, 3).float()
    outs = []
    for k in (0, recompute):
        result = bound(model, x, eps, precision=precision, recompute=k)
        gradients = torch.autograd.grad(result.total.sum(), list(model.parameters()))
        outs.append(([result.distortion, result.rate, *result.state], gradients))
    (values, gradients), (again, others) = outs
    torch.testing.assert_close(values, again, rtol=1e-5, atol=1e-5)
    # Weight gradients are rounded once a block, and blocks end with what is recomputed together.
    limit = 1e-5 if precision is None else 0.01
    for ours, theirs in zip(gradients, others, strict=True):
        assert (ours - theirs).norm() <= limit * theirs.norm()


def test_recomputation_keeps_fewer_tensors():
    model = tiny(shape=(1, 4, 3), steps=16, latents=2, scale=0.4).float()
    x, eps = images(model, 3).float(), noise(model, 3).float()
    kept = []
    for k in (0, 4):
        held = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, h=held: h.append(t) or t, _same):
            bound(model, x, eps, recompute=k)
        kept.append(sum(t.numel() for t in held))
    assert kept[1] < 0.5 * kept[0]


def _same(t):
    return t


# ---- every parameter is learned -----------------------------------------------------------------


@pytest.mark.parametrize("recompute", [0, 2])
@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
@pytest.mark.parametrize(("read", "write"), [(2, 3), (2, 0), (0, 3), (0, 0)])
def test_every_parameter_gets_a_gradient_of_its_own(read, write, likelihood, recompute):
    shape = (3, 4, 6)
    model = tiny(shape=shape, steps=3, read=read, write=write, likelihood=likelihood, scale=0.3)
    model = model.float()
    x, eps = images(model, 12).float(), noise(model, 12).float()
    bound(model, x, eps, recompute=recompute).total.mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert (p.grad != 0).float().mean() > 0.95, name


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
    model = tiny(steps=4, latents=3, shape=(1, 5, 4), prior=prior)
    x, eps = images(model, 6), noise(model, 6)
    redrawn = list(sequential.redraw(model, x, eps))
    again = list(generate(model, sequential.encode(model, x, eps)))
    for one, two in zip(redrawn, again, strict=True):
        torch.testing.assert_close(one.state.c, two.c, rtol=1e-12, atol=1e-12)
    b = bound(model, x, eps)
    torch.testing.assert_close(torch.stack([r.rate for r in redrawn]), b.rate)
    assert not torch.allclose(sequential.encode(model, x, eps), eps)
