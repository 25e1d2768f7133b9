"""The distributions: sums to one, closed forms, codes; every one against sums written out."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

import oracle
from drawnet.nn import distributions
from drawnet.nn.distributions import (
    Bernoulli,
    CoupledLogistic,
    Gaussian,
    Logistic,
    LogisticMixture,
)

LEVELS = torch.arange(256, dtype=torch.float64) / 255
MEANS = [-3.0, -0.1, 0.0, 0.001, 0.37, 0.5 / 255, 0.5, 1.0, 1.2, 4.0]
LOG_SCALES = [-12.0, -7.0, -5.5, -3.0, -1.0, 0.0, 2.0, 6.0]


def gaussians(shape=(4, 7), seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return [
        Gaussian(torch.randn(shape, dtype=dtype), 0.7 * torch.randn(shape, dtype=dtype))
        for _ in range(2)
    ]


# ---- Gaussian -----------------------------------------------------------------------------------


def test_kl_against_the_standard_prior_is_equation_11():
    q, _ = gaussians()
    expected = [oracle.kl(*rows) for rows in zip(q.mu.numpy(), q.log_sigma.numpy(), strict=True)]
    assert q.kl().tolist() == pytest.approx(expected, rel=1e-12)


def test_kl_against_a_learned_prior_is_the_closed_form():
    q, p = gaussians()
    rows = zip(*(t.numpy() for t in (*q, *p)), strict=True)
    assert q.kl(p).tolist() == pytest.approx([oracle.kl(*row) for row in rows], rel=1e-12)
    zero = torch.zeros_like(q.mu)
    assert torch.allclose(q.kl(Gaussian(zero, zero)), q.kl(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_sample_and_kl_serves_every_number_type(dtype):
    """bfloat16 once went to the float32 kernel, which read beyond the tensors' ends."""
    q, _ = gaussians(dtype=dtype)
    eps = torch.randn(4, 7, dtype=dtype)
    z, kl = distributions.sample_and_kl(q, None, eps)
    exact = Gaussian(q.mu.double(), q.log_sigma.double())
    bound = {torch.bfloat16: 0.1, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    assert z.dtype == kl.dtype == dtype
    torch.testing.assert_close(z.double(), exact.sample(eps.double()), atol=bound, rtol=bound)
    torch.testing.assert_close(kl.double(), exact.kl(), atol=bound, rtol=bound)


def test_gradcheck_of_kl_and_densities():
    q, p = gaussians((2, 3))
    z = torch.randn(2, 3, dtype=torch.float64)
    leaves = [t.requires_grad_() for t in (*q, *p, z)]

    def everything(mu, s, mu_p, s_p, z):
        q, p = Gaussian(mu, s), Gaussian(mu_p, s_p)
        return q.kl(), q.kl(p), q.log_prob(z), p.log_prob(q.sample(z))

    assert torch.autograd.gradcheck(everything, leaves)


# ---- Bernoulli ----------------------------------------------------------------------------------


def test_bernoulli_log_prob_is_equation_9():
    torch.manual_seed(0)
    logits = 5 * torch.randn(3, 2, 4, 5, dtype=torch.float64)
    for x in ((torch.rand_like(logits) < 0.5).double(), torch.rand_like(logits)):
        ours = Bernoulli(logits).log_prob(x)
        expected = [oracle.bernoulli_log_prob(x[k], logits[k]) for k in range(3)]
        assert ours.tolist() == pytest.approx(expected, rel=1e-9)
        cost = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
        assert torch.allclose(ours, -cost, rtol=1e-12)


def test_bernoulli_is_finite_at_extreme_logits():
    logits = torch.tensor([-1e30, -200.0, 200.0, 1e30]).view(1, 1, 1, 4).requires_grad_()
    for x in (torch.zeros(1, 1, 1, 4), torch.ones(1, 1, 1, 4)):
        log_p = Bernoulli(logits).log_prob(x)
        (gradient,) = torch.autograd.grad(log_p.sum(), logits)
        assert log_p.isfinite().all()
        assert gradient.isfinite().all()
        assert (gradient.sign() == (2 * x - 1) * (gradient != 0)).all()


# ---- discretised logistic -----------------------------------------------------------------------


def logistic(dtype=torch.float64, levels=LEVELS):
    """Every mean with every scale, at every level: log P of shape (means, scales, levels)."""
    mu = torch.tensor(MEANS, dtype=dtype)[:, None, None]
    s = torch.tensor(LOG_SCALES, dtype=dtype)[:, None]
    mu, s, x = torch.broadcast_tensors(mu, s, levels.to(dtype))
    flat = (t.reshape(-1, 1, 1, 1) for t in (mu, s, x))
    mu, s, x = (t.clone() for t in flat)
    return mu.requires_grad_(), s.requires_grad_(), x, mu.shape[0] // len(levels)


def test_logistic_is_the_mass_between_half_levels_and_the_ends_take_the_tails():
    for mu, s, level in itertools.product(
        [-0.2, 0.3, 1.0], [-4.0, -1.0, 2.0], [0, 1, 77, 254, 255]
    ):
        one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        ours = Logistic(mu * one, s * one).log_prob(one * level / 255)
        expected = math.log(oracle.logistic_probability(level, mu, s))
        assert ours.item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_logistic_and_its_gradient_are_finite_everywhere(dtype):
    mu, s, x, _ = logistic(dtype)
    log_p = Logistic(mu, s).log_prob(x)
    log_p.sum().backward()
    assert log_p.isfinite().all()
    assert (log_p <= 1e-6).all()
    assert mu.grad.isfinite().all()
    assert s.grad.isfinite().all()


def test_gradcheck_of_the_logistic():
    torch.manual_seed(0)
    x = torch.randint(256, (2, 1, 3, 3)).double() / 255
    x[0, 0, 0, 0], x[1, 0, 0, 0] = 0.0, 1.0
    mu = torch.rand(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    s = (torch.randn(2, 1, 3, 3, dtype=torch.float64) - 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda mu, s: Logistic(mu, s).log_prob(x), (mu, s))


def test_logistic_terms_sum_over_everything_but_the_images():
    torch.manual_seed(0)
    mu, s, x = (
        torch.rand(3, 3, 2, 4),
        -torch.rand(3, 3, 2, 4),
        torch.randint(256, (3, 3, 2, 4)) / 255,
    )
    whole = Logistic(mu, s).log_prob(x)
    assert whole.shape == (3,)
    pixels = Logistic(mu.view(-1, 1, 1, 1), s.view(-1, 1, 1, 1)).log_prob(x.view(-1, 1, 1, 1))
    torch.testing.assert_close(whole, pixels.view(3, -1).sum(1))


# ---- canvases -----------------------------------------------------------------------------------


def test_a_canvas_stands_for_its_distribution():
    canvas = 20 * torch.randn(2, 6, 3, 4)
    for kind in ("bernoulli", "cross_entropy"):
        p = distributions.pixels(kind, canvas)
        assert distributions.canvas_channels(kind, 6) == 6
        assert torch.equal(p.mean, canvas.sigmoid())
    p = distributions.pixels("logistic", canvas)
    assert distributions.canvas_channels("logistic", 3) == 6
    assert torch.equal(p.mean, canvas[:, :3].sigmoid())
    low, high = distributions.LOG_SCALE
    assert p.log_scale.shape == (2, 3, 3, 4)
    assert low == p.log_scale.min()
    assert high == p.log_scale.max()


@pytest.mark.parametrize("kind", ["bernoulli", "logistic"])
def test_the_mean_of_a_distribution_is_that_of_its_samples(kind):
    """To a few grey levels for the logistic, whose mean forgets what the ends cut off."""
    torch.manual_seed(0)
    canvas = torch.randn(1, 2, 1, 1, dtype=torch.float64)
    canvas[:, 1] = -1.5
    p = distributions.pixels(kind, canvas)
    uniform = ((torch.arange(9999, dtype=torch.float64) + 0.5) / 9999).view(-1, 1, 1, 1)
    drawn = p.sample(uniform.expand(-1, *p.mean.shape[1:])).mean(0)
    torch.testing.assert_close(drawn, p.mean[0], atol=0.01, rtol=0)


# ---- coupled logistics --------------------------------------------------------------------------


def coupled(channels=3, batch=2, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    mu = torch.rand(batch, channels, 2, 3, dtype=dtype) * 1.4 - 0.2
    log_scale = torch.randn(batch, channels, 2, 3, dtype=dtype) - 3
    pairs = channels * (channels - 1) // 2
    return CoupledLogistic(
        Logistic(mu, log_scale), torch.randn(batch, pairs, 2, 3, dtype=dtype).clamp(-2, 2)
    )


def test_coupled_channels_written_out():
    p = coupled()
    levels = torch.randint(256, (2, 3, 2, 3))
    levels[0, :, 0, 0], levels[1, :, 0, 0] = 0, 255
    x = levels.double() / 255
    for b in range(2):
        total = 0.0
        for i, j in itertools.product(range(2), range(3)):
            mu, s = (t[b, :, i, j].tolist() for t in p.logistic)
            a10, a20, a21 = p.coupling[b, :, i, j].tolist()
            red, green, _ = x[b, :, i, j].tolist()
            excess = red - mu[0], green - mu[1]
            means = mu[0], mu[1] + a10 * excess[0], mu[2] + a20 * excess[0] + a21 * excess[1]
            for c in range(3):
                level = levels[b, c, i, j].item()
                total += math.log(oracle.logistic_probability(level, means[c], s[c]))
        assert p.log_prob(x)[b].item() == pytest.approx(total, rel=1e-6)


def test_gradcheck_of_coupled_channels():
    p = coupled()
    x = torch.randint(256, (2, 3, 2, 3)).double() / 255
    leaves = [t.clone().requires_grad_() for t in (*p.logistic, p.coupling)]
    assert torch.autograd.gradcheck(
        lambda mu, s, a: CoupledLogistic(Logistic(mu, s), a).log_prob(x), leaves
    )


def test_a_grey_image_has_nothing_to_couple():
    p, x = coupled(1), torch.randint(256, (2, 1, 2, 3)).double() / 255
    torch.testing.assert_close(p.log_prob(x), p.logistic.log_prob(x))
    uniform = torch.rand_like(x)
    torch.testing.assert_close(p.sample(uniform), p.logistic.sample(uniform))


def test_samples_of_coupled_channels_move_together():
    n, ones = 20_000, torch.ones(20_000, 3, 1, 1)
    torch.manual_seed(0)
    a = torch.tensor([0.8, -0.3, 0.5]).view(1, 3, 1, 1).expand(n, 3, 1, 1)
    p = CoupledLogistic(Logistic(0.5 * ones, -4.0 * ones), a)
    x = p.sample(torch.rand(n, 3, 1, 1)).flatten(1) - 0.5
    slope = (x[:, 0] @ x[:, 1]) / (x[:, 0] @ x[:, 0])
    both = torch.linalg.lstsq(x[:, :2], x[:, 2]).solution
    assert [slope.item(), *both.tolist()] == pytest.approx([0.8, -0.3, 0.5], abs=0.03)
    torch.testing.assert_close(x.mean(0), torch.zeros(3), atol=0.002, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_canvas_for_coupled_channels(channels):
    deep = distributions.canvas_channels("coupled", channels)
    assert distributions.channels_of(deep) == channels
    p = distributions.pixels("coupled", torch.zeros(2, deep, 4, 5))
    assert p.coupling.shape == (2, channels * (channels - 1) // 2, 4, 5)
    for c in range(channels):  # each follows the one before it alone
        x = torch.full((2, channels, 4, 5), 0.5)
        x[:, :-1] += 0.1 * torch.arange(channels - 1)[:, None, None]
        expected = x[:, c - 1] if c else x[:, 0] * 0 + 0.5
        torch.testing.assert_close(p.conditional(x, c).mu, expected)


# ---- mixture of logistics -----------------------------------------------------------------------


def mixture(components=3, channels=2, batch=2, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    logits = torch.randn(batch, components, 2, 3, dtype=dtype)
    mu = torch.rand(batch, components, channels, 2, 3, dtype=dtype) * 1.4 - 0.2
    log_scale = torch.randn(batch, components, channels, 2, 3, dtype=dtype) - 3
    return LogisticMixture(logits, Logistic(mu, log_scale))


def test_a_mixture_is_the_sum_of_its_components_written_out():
    p = mixture()
    x = torch.randint(256, (2, 2, 2, 3))
    x[0, :, 0, 0], x[1, :, 0, 0] = 0, 255
    for b in range(2):
        total = 0.0
        for i, j in itertools.product(range(2), range(3)):
            weights = p.logits[b, :, i, j].exp()
            mass = 0.0
            for k in range(3):
                product = weights[k].item() / weights.sum().item()
                for c in range(2):
                    mu, s = (t[b, k, c, i, j].item() for t in p.logistics)
                    product *= oracle.logistic_probability(x[b, c, i, j].item(), mu, s)
                mass += product
            total += math.log(mass)
        ours = p.log_prob(x.double() / 255)
        assert ours.shape == (2,)
        assert ours[b].item() == pytest.approx(total, rel=1e-6)


def test_gradcheck_of_the_mixture():
    p = mixture(components=2)
    x = torch.randint(256, (2, 2, 2, 3)).double() / 255
    leaves = [t.clone().requires_grad_() for t in (p.logits, *p.logistics)]
    assert torch.autograd.gradcheck(
        lambda pi, mu, s: LogisticMixture(pi, Logistic(mu, s)).log_prob(x), leaves
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_mixture_and_its_gradient_are_finite_at_the_extremes(dtype):
    x = torch.tensor([0.0, 0.5, 1.0], dtype=dtype).view(3, 1, 1, 1)
    for value in (-1e4, 1e4):
        canvas = torch.full((3, 9, 1, 1), value, dtype=dtype)
        canvas[:, :3] *= torch.tensor([1, -1, 1])[:, None, None]
        canvas[:, -3:] *= torch.tensor([1, -1, 0])[:, None, None]
        canvas.requires_grad_()
        log_p = distributions.pixels("mixture", canvas, 3).log_prob(x)
        log_p.sum().backward()
        assert log_p.isfinite().all()
        assert canvas.grad.isfinite().all()


def test_the_channels_of_a_sampled_pixel_share_their_component():
    """Two components, black and white: colours of both would be grey in one channel only."""
    n = 2000
    torch.manual_seed(0)
    mu = torch.tensor([0.1, 0.9]).view(1, 2, 1, 1, 1).expand(n, 2, 3, 1, 1)
    p = LogisticMixture(torch.zeros(n, 2, 1, 1), Logistic(mu, torch.full_like(mu, -5.0)))
    x = p.sample(torch.rand(n, 3, 1, 1))
    bright = x > 0.5
    assert (bright.all(1) | ~bright.any(1)).all()
    assert bright.float().mean().item() == pytest.approx(0.5, abs=0.05)
    deviations = (x - torch.where(bright, 0.9, 0.1)).flatten(1)
    correlation = torch.corrcoef(deviations.T) - torch.eye(3)
    assert correlation.abs().max() < 0.1


@pytest.mark.parametrize("components", [1, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_canvas_for_a_mixture(components, channels):
    deep = distributions.canvas_channels("mixture", channels, components)
    assert deep == components * (2 * channels + 1)
    mean = torch.rand(channels, 4, 5) * 0.9 + 0.05
    canvas = distributions.first_canvas("mixture", mean, components)
    assert canvas.shape == (deep, 4, 5)
    p = distributions.pixels("mixture", canvas[None], components)
    assert p.logits.shape == (1, components, 4, 5)
    assert [t.shape for t in p.logistics] == [(1, components, channels, 4, 5)] * 2
    assert (p.mean[0] - mean).abs().max() < 0.15
    # Components start apart, so that each can become one of its own.
    assert (p.logistics.mu.diff(dim=1) > 0).all()


@pytest.mark.parametrize("kind", ["bernoulli", "cross_entropy", "logistic", "coupled"])
def test_a_first_canvas_has_the_mean_that_was_asked_for(kind):
    mean = torch.rand(3, 4, 5) * 0.9 + 0.05
    canvas = distributions.first_canvas(kind, mean)
    assert canvas.shape == (distributions.canvas_channels(kind, 3), 4, 5)
    torch.testing.assert_close(distributions.pixels(kind, canvas[None]).mean[0], mean)
