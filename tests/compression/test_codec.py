"""Bits back: images come back, and cost what the bound says."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import blobs, small
from drawnet import models
from drawnet.compression import tables
from drawnet.compression.codec import BINS, Codec, Stack, used_channels
from drawnet.compression.exact import Exact
from drawnet.models import sequential
from drawnet.nn.distributions import Gaussian, pixels

STEP_MODELS = [
    kind for kind in models.names() if issubclass(models.module(kind).Model, sequential.StepModel)
]
CASES = [(kind, "bernoulli", 0, 1) for kind in STEP_MODELS] + [
    ("draw", "bernoulli", 3, 1), ("draw", "logistic", 0, 3), ("conv_draw", "logistic", 3, 3),
    ("conv_draw", "mixture", 0, 3), ("vae", "mixture", 0, 1), ("conv_draw", "coupled", 0, 3),
]  # fmt: skip


def coder(kind, likelihood="bernoulli", classes=0, channels=1, **settings):
    torch.manual_seed(0)
    config = replace(small(kind, likelihood=likelihood, classes=classes), **settings)
    model = models.build(config, (channels, 8, 8)).double().eval()
    return Codec(model, 2 if likelihood == "bernoulli" else 256)


def images(codec, n):
    """Images of the codec's shape and levels, and labels."""
    channels = codec.model.shape[0]
    rng = np.random.default_rng(1)
    squares = np.repeat(blobs(n, 5), channels, 1)
    if codec.levels == 256:
        squares = squares * 200 + rng.integers(0, 56, squares.shape).astype(np.uint8)
        squares[:, :, 0] = 255 * (squares[:, :, 0] > 100)  # the ends of the range
    return squares, np.arange(n) % max(codec.model.classes, 1)


@pytest.mark.parametrize(("kind", "likelihood", "classes", "channels"), CASES)
def test_every_image_comes_back(kind, likelihood, classes, channels):
    few = {"latents": 4} if hasattr(models.config(kind), "latents") else {}
    codec = coder(kind, likelihood, classes, channels, **few)
    pixels, labels = images(codec, 150)
    coded = codec.encode(pixels, labels)
    assert 0 < coded.packed < 150 and len(coded.batches) > 1
    found, numbers = codec.decode(coded)
    assert (found == pixels).all() and (numbers == labels).all()


def test_images_too_few_for_the_model_come_back():
    codec = coder("draw")
    pixels, labels = images(codec, 2)
    coded = codec.encode(pixels, labels)
    assert coded.packed == 2 and not coded.batches
    assert (codec.decode(coded)[0] == pixels).all()


def test_channels_that_are_left_out_stay_at_the_priors_mean():
    codec = coder("draw", latents=6)
    few = Codec(codec.model, 2, [1, 4])
    pixels, labels = images(few, 120)
    coded = few.encode(pixels, labels)
    assert coded.used == (1, 4) and (few.decode(coded)[0] == pixels).all()
    z = few.place(torch.zeros(5, 2, dtype=torch.int64), None)
    assert (z[:, [0, 2, 3, 5]] == 0).all() and (z[:, [1, 4]] < -2).all()


def test_channels_are_coded_that_say_something():
    model = coder("draw", latents=6).model
    x, y = torch.from_numpy(blobs(20, 3)).double(), torch.zeros(20, 0, dtype=torch.float64)
    with torch.no_grad():
        for row in (model.q.weight, model.q.bias):
            row[[0, 1, 3, 5, 6, 7, 9, 11]] = 0  # mu and log sigma of channels 0, 1, 3, 5
    assert used_channels(model, x, y) == [2, 4]


def test_the_price_is_the_bound():
    """Net bits against the bound of the same model, at the same images."""
    codec = coder("draw", steps=4, units=16, latents=5)
    for p in codec.model.parameters():
        torch.nn.init.normal_(p, std=0.25)
    pixels, labels = images(codec, 700)
    coded = codec.encode(pixels, labels)
    rest = slice(coded.packed, None)
    x = torch.from_numpy(pixels[rest]).double()
    eps = torch.randn(4, len(x), 5, dtype=torch.float64)
    with torch.no_grad():
        bound = sequential.bound(codec.model, x, eps)
    assert bound.rate.sum(0).mean() > 0.5  # latents that say something
    net = coded.model_bits * math.log(2)
    assert net == pytest.approx(bound.total.sum().item(), rel=0.02)


def test_a_stack_gives_back_what_was_pushed():
    content = bytes(range(64)) + bytes(8)  # zeros at the end are kept
    stack, table = Stack(content, seal=True), torch.randint(1, 99, (50, 7)).double()
    popped = stack.pop(table)
    uniform = stack.pop_uniform(16, 5)
    stack.push_uniform(uniform, 16)
    stack.push(popped, table)
    assert stack.content(unseal=True) == content


def test_prior_bins_have_equal_mass_and_the_mean_of_their_share():
    edges, centres = tables.bins(BINS)
    mass = torch.special.ndtr(edges).diff()
    torch.testing.assert_close(mass, torch.full_like(mass, 1 / BINS), rtol=1e-4, atol=0)
    assert abs(centres.mean()) < 1e-6 and (centres**2).mean() == pytest.approx(1, abs=0.01)
    # Far from where another library's last bits would make a difference.
    from statistics import NormalDist

    inner = [NormalDist().inv_cdf(k / BINS) * tables.GRID for k in range(1, BINS)]
    assert all(abs(v % 1 - 0.5) > 1e-6 for v in inner)


def test_latents_have_the_frequencies_of_q():
    q = Gaussian(torch.randn(20, 3).double(), torch.randn(20, 3).double() - 1)
    table = tables.latent_table(q, BINS)
    assert (table >= 1).all() and (table == table.round()).all()
    edges, _ = tables.bins(BINS)
    cdf = torch.special.ndtr((edges - q.mu[..., None]) * (-q.log_sigma).exp()[..., None])
    torch.testing.assert_close(
        table[..., :-1].cumsum(-1) / tables.SCALE, cdf, rtol=0, atol=BINS / tables.SCALE + 1e-7
    )


@pytest.mark.parametrize("kind", ["bernoulli", "logistic", "coupled", "mixture"])
def test_pixels_have_the_frequencies_of_the_likelihood(kind):
    levels, channels = (2, 1) if kind == "bernoulli" else (256, 3)
    deep = {"bernoulli": 1, "logistic": 6, "coupled": 9, "mixture": 35}[kind]
    canvas = torch.randn(4, deep, 5, 5).double()
    p = pixels(kind, canvas)
    k = (p.sample(torch.rand(4, channels, 5, 5).double()) * (levels - 1)).round().long()
    x = k.double() / (levels - 1)
    log_prob = torch.zeros(4, dtype=torch.float64)
    with Exact(torch.nn.Linear(1, 1)):
        found = [tables.pixel_table(p, x, stage) for stage in range(tables.stages(p))]
    for stage, table in enumerate(found):
        chosen = k if table.dim() == 5 else k[:, stage]
        share = table.gather(-1, chosen[..., None])[..., 0] / table.sum(-1)
        log_prob += share.log().flatten(1).sum(1)
    torch.testing.assert_close(log_prob, p.log_prob(x), rtol=2e-3, atol=0.05)
