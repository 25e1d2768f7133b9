"""The distributions: sums to one, closed forms, codes; every one against sums written out."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import oracle
from drawnet.nn import distributions
from drawnet.nn.distributions import Bernoulli, Gaussian, Logistic, LogisticMixture

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


def test_kl_has_its_constant():
    """It is 0 for the prior itself and Z/2 for unit means; forgotten, T·Z/2 = 3200 nats are off."""
    zero, one = torch.zeros(2, 100), torch.ones(2, 100)
    for q, expected in ((Gaussian(zero, zero), 0.0), (Gaussian(one, zero), 50.0)):
        assert q.kl().tolist() == [expected] * 2
        assert distributions.sample_and_kl(q, None, zero)[1].tolist() == [expected] * 2
    assert Gaussian(one, zero).kl(Gaussian(one, zero)).tolist() == [0.0] * 2


@pytest.mark.parametrize("learned", [False, True])
def test_kl_is_the_mean_of_the_log_ratio(learned):
    q, p = gaussians((1, 3), seed=2)
    p = p if learned else None
    draws = 200_000
    wide = Gaussian(q.mu.expand(draws, -1), q.log_sigma.expand(draws, -1))
    z, kl = distributions.sample_and_kl(wide, p, torch.randn(draws, 3, dtype=torch.float64))
    prior = p.log_prob(z) if p else distributions.standard_log_prob(z)
    ratio = wide.log_prob(z) - prior
    error = ratio.std().item() / math.sqrt(draws)
    assert ratio.mean().item() == pytest.approx(kl[0].item(), abs=4 * error)
    assert error < 0.01


def test_gaussian_densities_integrate_to_one_and_match_each_other():
    z = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
    step = z[1].item() - z[0].item()
    one = torch.ones(len(z), 1, dtype=torch.float64)
    assert distributions.standard_log_prob(z).exp().sum() * step == pytest.approx(1)
    density = Gaussian(0.4 * one, -0.7 * one).log_prob(z).exp()
    assert density.sum().item() * step == pytest.approx(1)
    assert (density * z[:, 0]).sum().item() * step == pytest.approx(0.4)
    variance = (density * (z[:, 0] - 0.4) ** 2).sum().item() * step
    assert variance == pytest.approx(math.exp(-1.4))  # sigma = exp(log_sigma), variance its square
    assert torch.allclose(
        Gaussian(0 * one, 0 * one).log_prob(z), distributions.standard_log_prob(z), rtol=1e-12
    )


def test_a_sample_has_the_mean_and_deviation_of_its_gaussian():
    q, _ = gaussians()
    zero, one = torch.zeros_like(q.mu), torch.ones_like(q.mu)
    assert torch.equal(q.sample(zero), q.mu)
    assert torch.allclose(q.sample(one) - q.mu, q.log_sigma.exp(), rtol=1e-12)


@pytest.mark.parametrize("shape", [(3, 5), (3, 2, 4, 4)])
def test_gaussian_terms_sum_over_everything_but_the_images(shape):
    (q, p), z = gaussians(shape), torch.randn(shape, dtype=torch.float64)
    for k in range(3):
        one_q, one_p = (Gaussian(g.mu[k : k + 1], g.log_sigma[k : k + 1]) for g in (q, p))
        assert q.kl()[k].item() == pytest.approx(one_q.kl().item())
        assert q.kl(p)[k].item() == pytest.approx(one_q.kl(one_p).item())
        assert q.log_prob(z)[k].item() == pytest.approx(one_q.log_prob(z[k : k + 1]).item())
    assert q.kl().shape == q.kl(p).shape == q.log_prob(z).shape == (3,)


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


def test_bernoulli_sums_to_one_over_all_images():
    logits = 3 * torch.randn(1, 2, 3, 2, dtype=torch.float64)
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=12)), dtype=torch.float64)
    log_p = Bernoulli(logits).log_prob(images.view(-1, 2, 3, 2))
    assert log_p.exp().sum().item() == pytest.approx(1, rel=1e-10)


def test_bernoulli_is_finite_at_extreme_logits():
    logits = torch.tensor([-1e30, -200.0, 200.0, 1e30]).view(1, 1, 1, 4).requires_grad_()
    for x in (torch.zeros(1, 1, 1, 4), torch.ones(1, 1, 1, 4)):
        log_p = Bernoulli(logits).log_prob(x)
        (gradient,) = torch.autograd.grad(log_p.sum(), logits)
        assert log_p.isfinite().all()
        assert gradient.isfinite().all()
        assert (gradient.sign() == (2 * x - 1) * (gradient != 0)).all()


def test_bernoulli_samples_with_its_probability():
    uniform = ((torch.arange(10_000) + 0.5) / 10_000).view(-1, 1, 1, 1).expand(-1, 1, 1, 5)
    p = Bernoulli(torch.tensor([-30.0, -2.0, 0.0, 1.0, 30.0]).view(1, 1, 1, 5))
    x = p.sample(uniform)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert x.mean((0, 1, 2)).tolist() == pytest.approx(p.mean.flatten().tolist(), abs=2e-4)


# ---- discretised logistic -----------------------------------------------------------------------


def logistic(dtype=torch.float64, levels=LEVELS):
    """Every mean with every scale, at every level: log P of shape (means, scales, levels)."""
    mu = torch.tensor(MEANS, dtype=dtype)[:, None, None]
    s = torch.tensor(LOG_SCALES, dtype=dtype)[:, None]
    mu, s, x = torch.broadcast_tensors(mu, s, levels.to(dtype))
    flat = (t.reshape(-1, 1, 1, 1) for t in (mu, s, x))
    mu, s, x = (t.clone() for t in flat)
    return mu.requires_grad_(), s.requires_grad_(), x, mu.shape[0] // len(levels)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_logistic_sums_to_one_over_the_grey_levels(dtype, error):
    mu, s, x, pairs = logistic(dtype)
    total = Logistic(mu, s).log_prob(x).double().exp().view(pairs, 256).sum(1)
    # Where a bin ends in float32 is known to a rounding, which a scale below e^-7 magnifies.
    for sums, scale in zip(total.view(-1, len(LOG_SCALES)).T, LOG_SCALES, strict=True):
        limit = error * math.exp(max(0.0, -7.0 - scale))
        assert sums.tolist() == pytest.approx([1.0] * len(MEANS), abs=limit)


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


@pytest.mark.parametrize("mu", [-0.05, 0.2, 0.503, 1.01])
@pytest.mark.parametrize("log_scale", [-7.0, -4.0, -2.0, 0.0])
def test_logistic_samples_with_its_probabilities(mu, log_scale):
    """Evenly spaced uniforms: inversion then meets every probability to 1/n, not to 1/√n."""
    n = 100_000
    uniform = ((torch.arange(n, dtype=torch.float64) + 0.5) / n).view(-1, 1, 1, 1)
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    p = Logistic(mu * one, log_scale * one)
    x = p.sample(uniform)
    count = torch.bincount((x.flatten() * 255).round().long(), minlength=256)
    mass = [oracle.logistic_probability(level, mu, log_scale) for level in range(256)]
    assert (count.numpy() / n == pytest.approx(np.array(mass), abs=3 / n)) is True
    # A sample is a grey level exactly as the data has it.
    assert torch.equal(x, (x * 255).round() / 255)


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


# ---- mixture of logistics -----------------------------------------------------------------------


def mixture(components=3, channels=2, batch=2, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    logits = torch.randn(batch, components, 2, 3, dtype=dtype)
    mu = torch.rand(batch, components, channels, 2, 3, dtype=dtype) * 1.4 - 0.2
    log_scale = torch.randn(batch, components, channels, 2, 3, dtype=dtype) - 3
    return LogisticMixture(logits, Logistic(mu, log_scale))


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_a_mixture_sums_to_one_over_the_grey_levels(dtype, error):
    """Means beyond both ends and scales from a tenth of a level to several times the range."""
    torch.manual_seed(0)
    n = len(MEANS) * len(LOG_SCALES)
    mu, s = torch.tensor(list(itertools.product(MEANS, LOG_SCALES)), dtype=dtype).T
    order = [torch.randperm(n) for _ in range(3)]
    parts = [torch.stack([t[k] for k in order], 1).view(n, 3, 1, 1, 1) for t in (mu, s.clamp(-7))]
    logits = 3 * torch.randn(n, 3, 1, 1, dtype=dtype)
    p = LogisticMixture(logits, Logistic(*parts))
    levels = LEVELS.to(dtype)
    log_p = torch.stack([p.log_prob(x.expand(n, 1, 1, 1)) for x in levels], 1)
    assert log_p.double().exp().sum(1).tolist() == pytest.approx([1.0] * n, abs=error)


def test_a_mixture_sums_to_one_over_the_colours_of_a_pixel():
    p = mixture(batch=1)
    p = LogisticMixture(p.logits[..., :1, :1], Logistic(*(t[..., :1, :1] for t in p.logistics)))
    colours = torch.cartesian_prod(LEVELS, LEVELS).view(-1, 2, 1, 1)
    assert p.log_prob(colours).exp().sum().item() == pytest.approx(1, rel=1e-9)


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


def test_a_mixture_of_equals_is_a_logistic():
    one = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    plain = Logistic(one, -2 * one)
    p = LogisticMixture(
        torch.randn(2, 4, 4, 5, dtype=torch.float64),
        Logistic(*(t[:, None].expand(-1, 4, -1, -1, -1) for t in plain)),
    )
    x = torch.randint(256, (2, 3, 4, 5)).double() / 255
    assert torch.allclose(p.log_prob(x), plain.log_prob(x), rtol=1e-10)
    assert torch.allclose(p.mean, plain.mean)


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


def test_a_mixture_samples_with_its_probabilities():
    """Evenly spaced uniforms: the component's share and the place within it are met to 1/n."""
    n = 100_000
    uniform = ((torch.arange(n, dtype=torch.float64) + 0.5) / n).view(-1, 1, 1, 1)
    logits = torch.tensor([0.3, -2.0, 1.0], dtype=torch.float64).view(1, 3, 1, 1)
    mu = torch.tensor([0.1, 0.5, 1.02], dtype=torch.float64).view(1, 3, 1, 1, 1)
    s = torch.tensor([-3.0, -6.0, -2.0], dtype=torch.float64).view(1, 3, 1, 1, 1)
    p = LogisticMixture(logits, Logistic(mu, s))
    wide = Logistic(*(t.expand(n, -1, -1, -1, -1) for t in p.logistics))
    x = LogisticMixture(logits.expand(n, -1, -1, -1), wide).sample(uniform)
    count = torch.bincount((x.flatten() * 255).round().long(), minlength=256) / n
    mass = torch.stack([p.log_prob(level.view(1, 1, 1, 1)) for level in LEVELS]).exp().flatten()
    torch.testing.assert_close(count.double(), mass, atol=10 / n, rtol=0)
    assert torch.equal(x, (x * 255).round() / 255)


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


@pytest.mark.parametrize("kind", ["bernoulli", "cross_entropy", "logistic"])
def test_a_first_canvas_has_the_mean_that_was_asked_for(kind):
    mean = torch.rand(3, 4, 5) * 0.9 + 0.05
    canvas = distributions.first_canvas(kind, mean)
    assert canvas.shape == (distributions.canvas_channels(kind, 3), 4, 5)
    torch.testing.assert_close(distributions.pixels(kind, canvas[None]).mean[0], mean)


def test_noise_undoes_sampling():
    torch.manual_seed(0)
    q = Gaussian(*torch.randn(2, 5, 3, dtype=torch.float64))
    eps = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(q.standardise(q.sample(eps)), eps)


@pytest.mark.parametrize("kind", ["bernoulli", "logistic", "mixture"])
def test_the_places_of_an_image_add_up_to_its_probability(kind):
    torch.manual_seed(0)
    p = distributions.pixels(kind, torch.randn(4, distributions.canvas_channels(kind, 3), 5, 6))
    x = torch.randint(0, 2 if kind == "bernoulli" else 256, (4, 3, 5, 6)) / 255
    x = (x > 0).float() if kind == "bernoulli" else x
    places = p.log_prob_map(x)
    assert places.shape == (4, 5, 6)
    torch.testing.assert_close(places.sum((1, 2)), p.log_prob(x))
    other = x.clone()
    other[:, :, 2, 3] = 1 - other[:, :, 2, 3]
    assert (p.log_prob_map(other) != places).nonzero().unique(dim=0).tolist() == [
        [k, 2, 3] for k in range(4)
    ]
