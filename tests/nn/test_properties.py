"""Properties of the mathematics, for all sizes and values: hypothesis searches for exceptions.

The search is the same on every run.  Numbers are float64 unless a strategy draws their type.
"""

import ctypes
import itertools
import math
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from drawnet import kernels
from drawnet.kernels import attention as fused
from drawnet.nn import attention, distributions, noise, recurrent
from drawnet.nn.distributions import (
    Bernoulli,
    CoupledLogistic,
    Gaussian,
    Logistic,
    LogisticMixture,
)
from drawnet.nn.noise import DrawNoise, ImageNoise, Noise

always = settings(deadline=None, max_examples=50, derandomize=True, database=None)
SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from([torch.float64, torch.float32])
DOUBLE, SINGLE = st.just(torch.float64), st.just(torch.float32)
TIGHT = {torch.float64: 1e-10, torch.float32: 1e-4}
LEVELS = torch.arange(256, dtype=torch.float64) / 255


def reals(most):
    return st.floats(-most, most)


def random(seed, *shape, dtype=torch.float64):
    """N(0, 1) of this shape, a function of the seed."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.to(dtype)


def tensors(*shape, values):
    count = math.prod(shape)
    drawn = st.lists(values, min_size=count, max_size=count)
    return drawn.map(lambda v: torch.tensor(v, dtype=torch.float64).view(shape))


def equal(ours, theirs, limit=1e-10, scale=1.0):
    """Equal to `limit`, relative to the larger of `scale` and the largest expected number."""
    assert ours.shape == theirs.shape
    if theirs.numel():
        bound = limit * max(scale, theirs.abs().max().item())
        torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)


# ---- attention ----------------------------------------------------------------------------------

ANY_FLOAT = st.floats(allow_nan=False, allow_infinity=False, width=32)
ANY = (st.one_of(reals(3), reals(50), ANY_FLOAT),) * 5
USUAL = (reals(1), reals(1), reals(4), reals(2), reals(2))
# Every filter lies within half the longer side of the image: no centre is clamped.
NEAR = (reals(1), reals(1), reals(4), st.floats(-4, 0), reals(2))


class Scene(NamedTuple):
    """Images (B, C, H, W), patches (B, C, N, N), raw parameters (B, 5), and what serves them."""

    x: Tensor
    patch: Tensor
    raw: Tensor
    source: ModuleType = attention

    @property
    def n(self):
        return self.patch.shape[-1]

    @property
    def gamma(self):
        return attention.window(self.raw, self.n, 2, 2).gamma[:, None, None, None]

    def read(self, x=None):
        return self.source.read((self.x if x is None else x,), self.raw, self.n)

    def added(self, patch=None):
        """What a write adds to the canvas."""
        patch = self.patch if patch is None else patch
        return self.source.write(torch.zeros_like(self.x), patch, self.raw)


@st.composite
def scenes(draw, parameters=USUAL, dtypes=DTYPES, sides=(1, 9)):
    """Served by the formulas or, in float32, by the kernels, where there are any."""
    batch, channels, n = (draw(st.integers(*ends)) for ends in ((1, 3), (1, 3), (2, 6)))
    height, width = draw(st.integers(*sides)), draw(st.integers(*sides))
    dtype, seed, kernel = draw(dtypes), draw(SEEDS), draw(st.booleans())
    kernel = kernel and dtype == torch.float32 and isinstance(kernels.library(), ctypes.CDLL)
    raw = [draw(st.tuples(*parameters)) for _ in range(batch)]
    return Scene(
        random(seed, batch, channels, height, width, dtype=dtype),
        random(seed + 1, batch, channels, n, n, dtype=dtype),
        torch.tensor(raw, dtype=dtype),
        fused if kernel else attention,
    )


@always
@given(scenes(ANY, sides=(1, 40)))
def test_filters_are_weights_that_sum_to_one(scene):
    size = scene.x.shape[-2:]
    w = attention.window(scene.raw, scene.n, *size)
    for bank, side in zip(attention.filterbanks(w, scene.n, *size), size, strict=True):
        assert bank.shape == (len(scene.raw), scene.n, side)
        assert (bank >= 0).all()
        equal(bank.sum(-1), torch.ones_like(bank[..., 0]), TIGHT[bank.dtype])


@always
@given(st.integers(2, 12), reals(20), st.floats(0, 6))
def test_a_filter_is_a_gaussian_over_pixels_counted_from_1(size, mu, log_variance):
    """Between pixels a and a + 1 the slope of its logarithm is (μ - a - ½) / σ²."""
    sigma2 = math.exp(log_variance)
    one = torch.ones(1, dtype=torch.float64)
    bank = attention.filterbank(mu * one[:, None], sigma2 * one, size)[0, 0]
    between = torch.arange(1, size, dtype=torch.float64) + 0.5
    equal(bank.log().diff(), (mu - between) / sigma2)


@always
@given(st.integers(2, 9), st.integers(1, 60), st.integers(1, 60))
def test_a_window_of_zeros_spans_the_image_from_pixel_1_to_the_last(n, height, width):
    w = attention.window(torch.zeros(1, 5, dtype=torch.float64), n, height, width)
    assert (w.g_x, w.g_y) == ((width + 1) / 2, (height + 1) / 2)
    assert w.sigma2 == w.gamma == 1
    long = max(height, width)
    g = w.g_x if width == long else w.g_y
    expected = torch.linspace(1, long, n, dtype=torch.float64)
    equal(attention.centres(g, w.delta, n, long)[0], expected)


@always
@given(tensors(3, 5, values=reals(11.5)), st.integers(2, 9), st.integers(1, 60), st.integers(2, 60))
def test_decoding_a_window_is_invertible(raw, n, height, width):
    """Each number increases with its own parameter and depends on no other."""
    w = attention.window(raw, n, height, width)
    stride = (max(height, width) - 1) / (n - 1)
    back = (
        2 * w.g_x / (width + 1) - 1,
        2 * w.g_y / (height + 1) - 1,
        w.sigma2.log(),
        (w.delta / stride).log(),
        w.gamma.log(),
    )
    equal(torch.stack(back, 1), raw)


@always
@given(scenes(ANY))
def test_logarithms_and_centres_are_clamped(scene):
    size, logs = (7, 4), scene.raw[:, 2:].clamp(-attention.LIMIT, attention.LIMIT)
    w = attention.window(scene.raw, scene.n, *size)
    clamped = attention.window(torch.cat((scene.raw[:, :2], logs), 1), scene.n, *size)
    assert all(torch.equal(a, b) for a, b in zip(w, clamped, strict=True))
    for g in (w.g_x, w.g_y):
        mu = attention.centres(g, w.delta, scene.n, 7)
        assert ((mu >= -7) & (mu <= 14)).all()


@always
@given(reals(20), st.floats(0, 3), st.integers(2, 9))
def test_filters_stand_a_stride_apart_about_the_centre(g, delta, n):
    one = torch.ones(1, dtype=torch.float64)
    mu = attention.centres(g * one, delta * one, n, 50)[0]
    equal(mu.mean(), torch.tensor(g, dtype=torch.float64))
    equal(mu.diff(), delta * one.expand(n - 1))


@always
@given(scenes([st.just(v) for v in (0, 0, -50, 0, 0)]), st.integers(0, 3))
def test_a_narrow_window_of_zeros_reads_the_image_and_the_border_beyond(scene, beyond):
    """Of a square image, the image itself; what is written there lies as it is."""
    patch, raw, limit, short = scene.patch, scene.raw, TIGHT[scene.raw.dtype], scene.n
    x = torch.cat([patch] * 7, 3)[..., : short + 2 * beyond]
    long = x.shape[3]
    nearest = (torch.arange(long) - beyond).clamp(0, short - 1)
    equal(scene.source.read((x,), raw, long), x[:, :, nearest], limit)
    equal(scene.source.read((x.mT,), raw, long), x.mT[..., nearest], limit)
    equal(scene.source.write(patch, 2 * patch, raw), 3 * patch, limit)


@always
@given(scenes())
def test_exchanging_the_axes_transposes_what_is_read_and_written(scene):
    limit, raw = TIGHT[scene.raw.dtype], scene.raw[:, [1, 0, 2, 3, 4]]
    other = Scene(scene.x.mT, scene.patch.mT, raw, scene.source)
    equal(other.read(), scene.read().mT, limit)
    equal(other.added(), scene.added().mT, limit)


@always
@given(scenes(NEAR), st.sampled_from([(0, -1), (1, -2)]))
def test_a_mirrored_window_reads_and_writes_the_mirror_image(scene, which):
    (parameter, axis), limit = which, TIGHT[scene.raw.dtype]
    raw = scene.raw.clone()
    raw[:, parameter] *= -1
    other = Scene(scene.x.flip(axis), scene.patch.flip(axis), raw, scene.source)
    equal(other.read(), scene.read().flip(axis), limit)
    equal(other.added(), scene.added().flip(axis), limit)


@always
@given(
    scenes(
        (reals(0.1), reals(0.1), st.floats(-3, 0), st.floats(-4, -3), reals(1)),
        sides=(24, 36),
    ),
    st.sampled_from([(0, -1), (1, -2)]),
)
def test_a_window_that_moves_with_the_image_reads_the_same(scene, which):
    """By a pixel, where the border is so far away that the filters weigh nothing there."""
    (parameter, axis), limit = which, TIGHT[scene.raw.dtype]
    raw = scene.raw.clone()
    raw[:, parameter] += 2 / (scene.x.shape[axis] + 1)
    other = scene._replace(x=scene.x.roll(1, axis), raw=raw)
    equal(other.read(), scene.read(), limit)
    equal(other.added(), scene.added().roll(1, axis), limit)


@always
@given(scenes(ANY, sides=(1, 40)))
def test_write_is_the_adjoint_of_read(scene):
    """<read x, w> / γ = γ <x, write w>, image by image."""
    glimpse, picture = scene.read() / scene.gamma, scene.added() * scene.gamma
    ours, theirs = ((a * b).sum((1, 2, 3)) for a, b in ((glimpse, scene.patch), (scene.x, picture)))
    sizes = [t.flatten(1).norm(dim=1).max().item() for t in (glimpse, scene.patch, picture)]
    equal(ours, theirs, TIGHT[ours.dtype], sizes[0] * sizes[1] + sizes[2])


@always
@given(scenes(), reals(3), SEEDS)
def test_read_and_write_are_linear(scene, factor, seed):
    limit = 10 * TIGHT[scene.raw.dtype]
    x, patch = (random(seed, *t.shape, dtype=t.dtype) for t in (scene.x, scene.patch))
    both = scene.read(scene.x + factor * x)
    equal(both, scene.read() + factor * scene.read(x), limit)
    written = scene.source.write(x, scene.patch + factor * patch, scene.raw)
    equal(written, x + scene.added() + factor * scene.added(patch), limit)


@always
@given(scenes(ANY, sides=(1, 40)))
def test_a_glimpse_is_gamma_times_means_of_the_image(scene):
    limit = TIGHT[scene.raw.dtype]
    flat = scene.read(torch.full_like(scene.x, 0.75)) / scene.gamma
    equal(flat, torch.full_like(flat, 0.75), limit)
    glimpse, x = (scene.read() / scene.gamma).flatten(2), scene.x.flatten(2)
    assert (glimpse <= x.amax(2, keepdim=True) + limit).all()
    assert (glimpse >= x.amin(2, keepdim=True) - limit).all()


@always
@given(scenes(ANY, sides=(1, 40)))
def test_what_is_written_is_the_patch_over_gamma_laid_out(scene):
    laid, patch = (scene.added() * scene.gamma).sum((2, 3)), scene.patch.sum((2, 3))
    equal(laid, patch, TIGHT[patch.dtype], scene.n**2)


@always
@given(scenes())
def test_every_image_has_its_own_window_and_every_channel_the_same(scene):
    limit = TIGHT[scene.raw.dtype]
    glimpse, canvas = scene.read(), scene.source.write(scene.x, scene.patch, scene.raw)
    for b, c in itertools.product(range(len(scene.raw)), range(scene.x.shape[1])):
        one, channel = slice(b, b + 1), slice(c, c + 1)
        x, patch, raw = scene.x[one, channel], scene.patch[one, channel], scene.raw[one]
        equal(scene.source.read((x,), raw, scene.n), glimpse[one, channel], limit)
        equal(scene.source.write(x, patch, raw), canvas[one, channel], limit)
    several = scene.source.read((scene.x, 2 * scene.x), scene.raw, scene.n)
    equal(several, torch.cat((glimpse, 2 * glimpse), 1), limit)


@always
@given(scenes(ANY, SINGLE, (1, 40)))
def test_float32_is_finite_for_all_finite_parameters(scene):
    x, patch, raw = (t.requires_grad_() for t in scene[:3])
    glimpse, canvas = scene.read(), scene.source.write(x, patch, raw)
    total = (glimpse * patch.detach()).sum() + (canvas * x.detach()).sum()
    for values in (glimpse, canvas, *torch.autograd.grad(total, (x, patch, raw))):
        assert values.isfinite().all()


# ---- Gaussian -----------------------------------------------------------------------------------


@st.composite
def gaussians(draw, count):
    """Gaussians (B, …) of one shape, and noise of that shape."""
    shape = draw(st.lists(st.integers(1, 3), min_size=2, max_size=3))
    parts = [draw(tensors(*shape, values=reals(3))) for _ in range(2 * count + 1)]
    return *map(Gaussian, parts[:count], parts[count:-1]), parts[-1]


@always
@given(reals(5), reals(3))
def test_a_gaussian_density_has_mass_one_its_mean_and_its_variance(mu, log_sigma):
    """By quadrature over ±12 deviations."""
    sigma = math.exp(log_sigma)
    z = mu + sigma * torch.linspace(-12, 12, 601, dtype=torch.float64)[:, None]
    one = torch.ones_like(z)
    mass = Gaussian(mu * one, log_sigma * one).log_prob(z).exp() * sigma * 24 / 600
    moments = torch.stack([(mass * (z[:, 0] - mu) ** k).sum() / sigma**k for k in range(3)])
    equal(moments, torch.tensor([1, 0, 1], dtype=torch.float64))


@always
@given(gaussians(1))
def test_standardise_undoes_sampling_and_densities_change_variables(drawn):
    q, eps = drawn
    z = q.sample(eps)
    equal(q.standardise(z), eps)
    stretch = q.log_sigma.flatten(1).sum(1)
    equal(q.log_prob(z), distributions.standard_log_prob(eps) - stretch)
    zero = torch.zeros_like(eps)
    equal(distributions.standard_log_prob(eps), Gaussian(zero, zero).log_prob(eps))
    assert torch.equal(q.sample(zero), q.mu)


@always
@given(gaussians(2))
def test_kl_is_the_mean_of_the_log_ratio(drawn):
    """Exactly: log q - log p is quadratic in the noise, and three Gauss-Hermite nodes suffice."""
    q, p, _ = drawn
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    for prior in (p, None):
        total = 0.0
        for eps, weight in zip(nodes, weights / weights.sum(), strict=True):
            z = q.sample(torch.full_like(q.mu, eps))
            log_p = prior.log_prob(z) if prior else distributions.standard_log_prob(z)
            total = total + weight * (q.log_prob(z) - log_p)
        equal(q.kl(prior), total, 1e-9)


@always
@given(gaussians(2))
def test_kl_is_zero_between_equals_and_else_positive(drawn):
    q, p, _ = drawn
    assert (q.kl(p) > -1e-12).all()
    assert (q.kl() > -1e-12).all()
    differs = ((q.mu - p.mu).abs() + (q.log_sigma - p.log_sigma).abs()).flatten(1).amax(1)
    assert (q.kl(p)[differs > 1e-3] > 0).all()
    zero = torch.zeros_like(q.mu)
    assert torch.equal(q.kl(q), torch.zeros(len(zero), dtype=zero.dtype))
    assert torch.equal(Gaussian(zero, zero).kl(), torch.zeros(len(zero), dtype=zero.dtype))
    equal(q.kl(Gaussian(zero, zero)), q.kl())


@always
@given(gaussians(2))
def test_gaussian_terms_add_up_over_latents_and_not_over_images(drawn):
    q, p, z = drawn
    for of in (lambda q, p, z: q.kl(p), lambda q, p, z: q.kl(), lambda q, p, z: q.log_prob(z)):
        whole = of(q, p, z)
        assert whole.shape == (len(z),)
        column = [t.reshape(-1, 1) for t in (*q, *p, z)]
        single = of(Gaussian(*column[:2]), Gaussian(*column[2:4]), column[4])
        equal(whole, single.view(len(z), -1).sum(1))


@always
@given(gaussians(2), reals(5), reals(2))
def test_kl_does_not_depend_on_units(drawn, shift, log_scale):
    q, p, _ = drawn
    there = [Gaussian(math.exp(log_scale) * g.mu + shift, g.log_sigma + log_scale) for g in (q, p)]
    equal(there[0].kl(there[1]), q.kl(p), 1e-9)


# ---- pixels -------------------------------------------------------------------------------------


@st.composite
def canvases(draw, kinds=("bernoulli", "logistic", "coupled", "mixture")):
    """(kind, a canvas, images (B, C, H, W) of the values that the kind has)."""
    kind, seed = draw(st.sampled_from(kinds)), draw(SEEDS)
    batch, channels, height, width = (draw(st.integers(1, 3)) for _ in range(4))
    count = distributions.canvas_channels(kind, channels)
    canvas = draw(st.floats(0.1, 100)) * random(seed, batch, count, height, width)
    levels = 2 if kind == "bernoulli" else 256
    x = random(seed + 1, batch, channels, height, width).sigmoid() * levels
    return kind, canvas, x.floor() / (levels - 1)


@always
@given(canvases(), SEEDS)
def test_the_log_probability_of_an_image_is_the_sum_over_its_pixels(drawn, seed):
    """And that of a pixel depends on this pixel alone."""
    kind, canvas, x = drawn
    p = distributions.pixels(kind, canvas)
    log_p = p.log_prob_map(x)
    assert log_p.shape == (len(x), *x.shape[2:])
    equal(p.log_prob(x), log_p.sum((1, 2)))
    batch, top, left = (seed % size for size in log_p.shape)
    other = x.clone()
    other[batch, :, top, left] = 1 - other[batch, :, top, left]
    same = torch.ones_like(log_p, dtype=torch.bool)
    same[batch, top, left] = False
    assert torch.equal(p.log_prob_map(other)[same], log_p[same])
    one, there = (t[batch, :, top, left].view(1, -1, 1, 1) for t in (canvas, other))
    alone = distributions.pixels(kind, one).log_prob(there)
    equal(alone[0], p.log_prob_map(other)[batch, top, left])


@always
@given(canvases(), SEEDS)
def test_means_and_samples_are_images(drawn, seed):
    kind, canvas, x = drawn
    p = distributions.pixels(kind, canvas)
    assert p.mean.shape == x.shape
    assert ((p.mean >= 0) & (p.mean <= 1 + 1e-12)).all()
    sample = p.sample(random(seed, *x.shape).sigmoid())
    assert sample.shape == x.shape and ((sample >= 0) & (sample <= 1)).all()
    steps = 1 if kind == "bernoulli" else 255
    assert torch.equal(sample, (sample * steps).round() / steps)
    assert p.log_prob(sample).isfinite().all()


@always
@given(tensors(1, 2, 2, 2, values=reals(30)))
def test_bernoulli_images_have_total_probability_one(logits):
    """To e^-20: above 20 PyTorch takes softplus for the identity."""
    images = torch.cartesian_prod(*[torch.arange(2.0, dtype=torch.float64)] * 8)
    log_p = Bernoulli(logits).log_prob(images.view(-1, 2, 2, 2))
    equal(log_p.exp().sum(), torch.tensor(1.0, dtype=torch.float64), 1e-7)


@always
@given(reals(30), st.integers(1, 500))
def test_bernoulli_samples_are_1_as_often_as_their_mean(logit, n):
    """Of n evenly spaced uniforms the smallest give 1; their share is the mean to 1/n."""
    p = Bernoulli(torch.full((n, 1, 1, 1), logit, dtype=torch.float64))
    x = p.sample(((torch.arange(n) + 0.5) / n).double().view(n, 1, 1, 1)).flatten()
    assert (x.diff() <= 0).all()
    equal(x.mean(), p.mean[0, 0, 0, 0], 1 / n)


def at_every_level(*parts, dtype=torch.float64):
    """Numbers (K,) as parameters (256, K, 1, 1, 1) of an image at every level."""
    columns = (torch.tensor(part, dtype=dtype).view(1, -1, 1, 1, 1) for part in parts)
    return [column.repeat(256, 1, 1, 1, 1) for column in columns]


@always
@given(reals(5), st.floats(-12, 6), DTYPES)
def test_logistic_levels_have_total_probability_one(mu, log_scale, dtype):
    p = Logistic(*(t[:, 0] for t in at_every_level([mu], [log_scale], dtype=dtype)))
    log_p = p.log_prob(LEVELS.to(dtype).view(256, 1, 1, 1))
    assert log_p.isfinite().all()
    # In float32 the end of a bin is known to a rounding, which a scale below e^-7 magnifies.
    limit = TIGHT[dtype] * math.exp(max(0.0, -7.0 - log_scale))
    equal(log_p.exp().sum(), torch.tensor(1, dtype=dtype), 2 * limit)


@always
@given(reals(1.5), st.floats(-7, 2), st.floats(1e-6, 1 - 1e-6))
def test_logistic_samples_invert_the_distribution_function(mu, log_scale, uniform):
    """P(x < sample) <= u <= P(x <= sample)."""
    p = Logistic(*(t[:, 0] for t in at_every_level([mu], [log_scale])))
    below = p.log_prob(LEVELS.view(256, 1, 1, 1)).exp().cumsum(0)
    one = Logistic(*(t[:1] for t in p))
    sample = one.sample(torch.full((1, 1, 1, 1), uniform, dtype=torch.float64))
    level = round(255 * sample.item())
    assert level == 0 or below[level - 1] <= uniform + 1e-9
    assert level == 255 or uniform <= below[level] + 1e-9


@st.composite
def mixtures(draw, channels=1):
    """Weights' logits, means and log scales of K components, (K,) and (K · channels,)."""
    k = draw(st.integers(1, 4))
    lists = [(k, reals(4)), (k * channels, reals(1.5)), (k * channels, st.floats(-7, 2))]
    return [draw(st.lists(v, min_size=size, max_size=size)) for size, v in lists]


@always
@given(mixtures(), DTYPES)
def test_mixture_levels_have_total_probability_one(parts, dtype):
    logits, *logistics = at_every_level(*parts, dtype=dtype)
    p = LogisticMixture(logits[:, :, 0], Logistic(*logistics))
    log_p = p.log_prob(LEVELS.to(dtype).view(256, 1, 1, 1))
    equal(log_p.exp().sum(), torch.tensor(1, dtype=dtype), 2 * TIGHT[dtype])


@settings(always, max_examples=5)
@given(mixtures(2))
def test_mixture_colours_have_total_probability_one(parts):
    logits, mu, log_scale = (torch.tensor(part, dtype=torch.float64) for part in parts)
    shape = (1, len(logits), 2, 1, 1)
    p = LogisticMixture(
        logits.view((*shape[:2], 1, 1)), Logistic(mu.view(shape), log_scale.view(shape))
    )
    log_p = p.log_prob(torch.cartesian_prod(LEVELS, LEVELS).view(-1, 2, 1, 1))
    equal(log_p.exp().sum(), torch.tensor(1.0, dtype=torch.float64), 1e-9)


@settings(always, max_examples=5)
@given(st.lists(reals(1.5), min_size=2, max_size=2), st.floats(-7, 2), st.floats(-2, 2))
def test_coupled_colours_have_total_probability_one(mu, log_scale, a):
    x = torch.cartesian_prod(LEVELS, LEVELS).view(-1, 2, 1, 1)
    means = torch.tensor(mu, dtype=torch.float64).view(1, 2, 1, 1).expand_as(x)
    logistic = Logistic(means, torch.full_like(means, log_scale))
    log_p = CoupledLogistic(logistic, torch.full_like(means[:, :1], a)).log_prob(x)
    equal(log_p.exp().sum(), torch.tensor(1.0, dtype=torch.float64), 1e-9)


@always
@given(st.lists(st.tuples(reals(4), st.floats(0.2, 0.8)), min_size=1, max_size=4))
def test_a_mixtures_mean_is_that_of_its_levels(parts):
    """To half a level, where scales are so small that the ends cut nothing off."""
    logits, mu, log_scale = at_every_level(*zip(*parts, strict=True), [-6.0] * len(parts))
    p = LogisticMixture(logits[:, :, 0], Logistic(mu, log_scale))
    mass = p.log_prob(LEVELS.view(256, 1, 1, 1)).exp()
    equal((mass * LEVELS).sum(), p.mean[0, 0, 0, 0], 0.5 / 255)


@always
@given(mixtures())
def test_mixture_samples_have_their_probabilities(parts):
    """Each level gets its share of n evenly spaced uniforms, to three per component."""
    n, (logits, *logistics) = 2000, at_every_level(*parts)
    p = LogisticMixture(logits[:, :, 0], Logistic(*logistics))
    mass = p.log_prob(LEVELS.view(256, 1, 1, 1)).exp()
    many = [t[:1].expand(n, *t.shape[1:]) for t in (p.logits, *p.logistics)]
    uniform = ((torch.arange(n) + 0.5) / n).double().view(n, 1, 1, 1)
    sample = LogisticMixture(many[0], Logistic(*many[1:])).sample(uniform)
    count = torch.bincount((255 * sample).round().long().flatten(), minlength=256)
    equal(count / n, mass.float(), 3 * len(parts[0]) / n)


@always
@given(st.integers(1, 4), canvases(("logistic",)))
def test_a_mixture_of_equals_is_a_logistic(count, drawn):
    _, canvas, x = drawn
    p = distributions.pixels("logistic", canvas)
    copies = Logistic(*(t[:, None].expand(-1, count, *t.shape[1:]) for t in p))
    weights = random(0, len(x), count, *x.shape[2:])
    both = LogisticMixture(weights, copies)
    equal(both.log_prob(x), p.log_prob(x))
    equal(both.mean, p.mean)


@always
@given(tensors(4, 1, values=reals(2)), st.floats(0.05, 2))
def test_a_parzen_density_has_mass_one(samples, sigma):
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64)[:, None]
    mass = distributions.log_density(x, samples, sigma)[0].exp().sum() / 100
    equal(mass, torch.tensor(1.0, dtype=torch.float64), 1e-9)


# ---- noise --------------------------------------------------------------------------------------

SMALL = st.integers(0, 5)
PURPOSES = st.sampled_from(["latents", "window", "binarise train"])
KINDS = st.sampled_from(["normal", "uniform"])


def distinct(drawn, axis):
    """Whether no two slices along an axis are equal."""
    return drawn.unique(dim=axis).shape == drawn.shape


@always
@given(st.tuples(SEEDS, PURPOSES, SMALL), st.tuples(SEEDS, PURPOSES, SMALL), KINDS)
def test_noise_is_a_function_of_its_key_and_of_every_part_of_it(one, two, kind):
    def drawn(seed, purpose, step):
        return getattr(Noise(seed, step), kind)(purpose, 4)

    first = drawn(*one)
    torch.rand(3)  # what else is drawn does not matter
    assert torch.equal(drawn(*one), first)
    for k in range(3):
        changed = (*one[:k], two[k], *one[k + 1 :])
        assert torch.equal(drawn(*changed), first) == (changed == one)


@always
@given(SEEDS, SMALL, PURPOSES, KINDS, st.integers(1, 4), st.integers(1, 3), st.integers(0, 2))
def test_processes_share_one_noise(seed, step, purpose, kind, world, batch, axis):
    """Each takes its part of the batch, whatever the axis; no two parts are alike on any axis."""
    shape = [2, 2, 2]
    shape[axis] = batch
    parts = [
        getattr(Noise(seed, step, rank, world), kind)(purpose, *shape, axis=axis)
        for rank in range(world)
    ]
    shape[axis] *= world
    whole = getattr(Noise(seed, step), kind)(purpose, *shape, axis=axis)
    assert torch.equal(whole, torch.cat(parts, axis))
    assert all(distinct(whole, k) for k in range(3))


@always
@given(SEEDS, PURPOSES, KINDS, st.lists(SMALL, min_size=3, max_size=3), st.integers(0, 2))
def test_noise_of_an_image_is_its_own(seed, purpose, kind, counts, axis):
    """However images are batched, and whichever axis they stand along."""
    each = {"normal": noise.normal_each, "uniform": noise.uniform_each}[kind]
    first, second, third = np.cumsum([k + 1 for k in counts]).tolist()
    whole = each(seed, purpose, range(first, third), 2, 3)
    parts = [each(seed, purpose, range(*ends), 2, 3) for ends in ((first, second), (second, third))]
    assert torch.equal(whole, torch.cat(parts))
    assert distinct(whole, 0)
    shape = [2, 3]
    shape.insert(axis, len(whole))
    source = ImageNoise(seed, range(first, third))
    assert torch.equal(getattr(source, kind)(purpose, *shape, axis=axis), whole.movedim(0, axis))
    assert not torch.equal(each(seed + 1, purpose, range(first, third), 2, 3), whole)
    assert not torch.equal(each(seed, "other", range(first, third), 2, 3), whole)


@always
@given(SEEDS, KINDS, st.integers(1, 4), st.integers(1, 4))
def test_noise_of_a_draw_is_its_own(seed, kind, images, draws):
    """An image's draws follow one another; each depends on neither count."""

    def drawn(images, draws):
        shape = (3, len(images) * len(draws))
        return getattr(DrawNoise(seed, images, draws), kind)("importance", *shape, axis=1)

    whole = drawn(range(images), range(draws))
    assert distinct(whole, 1)
    for number, image in enumerate(whole.split(draws, 1)):
        assert torch.equal(image, drawn(range(number, number + 1), range(draws)))
        assert torch.equal(image[:, -1:], drawn(range(number, number + 1), range(draws - 1, draws)))


@always
@given(SEEDS, SMALL, st.integers(1, 50))
def test_an_epochs_order_is_a_permutation_of_its_own(seed, epoch, n):
    assert noise.permutation(seed, epoch, n).sort().values.tolist() == list(range(n))
    orders = [
        noise.permutation(*key, 50) for key in ((seed, epoch), (seed, epoch + 1), (seed + 1, epoch))
    ]
    assert distinct(torch.stack(orders), 0)


@always
@given(SEEDS, st.integers(1, 12), st.integers(0, 40), st.lists(st.integers(1, 30), min_size=1))
def test_the_stream_is_the_epochs_in_a_row_however_it_is_cut(seed, n, start, counts):
    ends = np.cumsum([start, *counts]).tolist()
    parts = [noise.stream(seed, at, count, n) for at, count in zip(ends[:-1], counts, strict=True)]
    epochs = [noise.permutation(seed, epoch, n) for epoch in range(ends[-1] // n + 1)]
    assert torch.equal(torch.cat(parts), torch.cat(epochs)[start : ends[-1]])


@always
@given(
    SEEDS,
    st.lists(st.integers(0, 2**41), max_size=4),
    st.lists(st.integers(1, 2**20), min_size=1, max_size=3),
)
def test_whole_numbers_of_an_image_are_its_own_and_below_their_limits(seed, images, limits):
    """An image's depend on no other image and no other column, but on every part of the key."""
    drawn = noise.integers_each(images, limits, "offsets", seed)
    assert drawn.shape == (len(images), len(limits)) and drawn.dtype == np.int64
    assert ((drawn >= 0) & (drawn < limits)).all()
    for image, numbers in zip(images, drawn.tolist(), strict=True):
        assert noise.integers_each([image], limits, "offsets", seed).tolist() == [numbers]
        assert noise.integers_each([image], limits[:1], "offsets", seed).tolist() == [numbers[:1]]
    keys = (("a", seed), ("b", seed), ("a", seed + 1))
    wide = [noise.integers_each(range(6), [2**20] * 3, *key) for key in keys]
    assert len(np.unique(np.concatenate(wide), axis=0)) == 18


# ---- recurrent cells ----------------------------------------------------------------------------


def outputs_and_gradients(function, leaves):
    """Of a function of tensors: its outputs, and the gradients of a sum that weighs them apart."""
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    outputs = function(*leaves)
    total = sum(((k + 1) * out.sin()).sum() for k, out in enumerate(outputs))
    return [*outputs, *torch.autograd.grad(total, leaves, allow_unused=True)]


def lstm(layer, x, h, c):
    weights = (*layer.split_weights(), layer.bias, torch.zeros_like(layer.bias))
    return torch.lstm_cell(x, (h, c), *weights)


def rnn(layer, x, h, c):
    bias = layer.xh.bias
    return torch.rnn_tanh_cell(x, h, *layer.split_weights(), bias, torch.zeros_like(bias)), c


def gru(layer, x, h, c):
    return torch.gru_cell(x, h, *layer.split_weights(), layer.x.bias, layer.h.bias), c


CELLS = {recurrent.LSTM: lstm, recurrent.RNN: rnn, recurrent.GRU: gru}


@always
@given(
    st.sampled_from([*CELLS, recurrent.Linear]),
    st.integers(1, 4),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(1, 9),
    DTYPES,
    SEEDS,
)
def test_layers_are_pytorchs_on_inputs_side_by_side(kind, batch, widths, units, dtype, seed):
    linear = kind is recurrent.Linear
    layer = (kind(sum(widths), units) if linear else kind(widths, units)).to(dtype)
    with torch.no_grad():
        for k, p in enumerate(layer.parameters()):
            p.copy_(random(seed + k, *p.shape))
    sizes = widths if linear else [*widths, units, units]
    inputs = [random(seed + 9 + k, batch, size, dtype=dtype) for k, size in enumerate(sizes)]
    if linear:
        pair = (
            lambda *x: (layer(*x),),
            lambda *x: (F.linear(torch.cat(x, 1), layer.weight, layer.bias),),
        )
    else:
        pair = (
            lambda *x: layer(x[:-2], *x[-2:]),
            lambda *x: CELLS[kind](layer, torch.cat(x[:-2], 1), *x[-2:]),
        )
    for ours, theirs in zip(*(outputs_and_gradients(f, inputs) for f in pair), strict=True):
        equal(ours, theirs, TIGHT[dtype])
