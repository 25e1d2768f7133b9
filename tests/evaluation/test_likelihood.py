"""Exact sums over a whole split, whatever the batch; bounds in their order."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from drawnet import models
from drawnet.data import subsample_indices
from drawnet.data.pipeline import Data, batches, labels
from drawnet.evaluation.likelihood import evaluate, importance_bound
from drawnet.models import sequential
from drawnet.models.sequential import bound
from drawnet.nn.noise import ImageNoise, normal_each


@pytest.fixture
def model(tiny_run):
    torch.manual_seed(0)
    return models.build(tiny_run.model, (1, 8, 8)).eval()


@pytest.fixture
def pixels(tiny_data):
    return torch.from_numpy(tiny_data.splits["test"].pixels)


def test_every_image_counts_once_whatever_the_batch(model, pixels):
    whole = evaluate(model, pixels, 2, Data("blobs"), "test", importance_samples=7)
    for rows in (1, 4, 10):
        part = evaluate(model, pixels, 2, Data("blobs"), "test", importance_samples=7, rows=rows)
        assert part.images == 11
        assert part.elbo_nats == pytest.approx(whole.elbo_nats, rel=1e-5)
        assert part.iw_nats == pytest.approx(whole.iw_nats, rel=1e-5)
        assert part.kl_per_step == pytest.approx(whole.kl_per_step, rel=1e-4)


def test_figures_are_what_their_names_say(model, pixels):
    e = evaluate(model, pixels, 2, Data("blobs"), "test")
    eps = normal_each(0, "latents", range(11), 3, 4).transpose(0, 1)
    b = sequential.bound(model, pixels.float(), eps)
    total = b.total.double()
    assert e.elbo_nats == pytest.approx(total.mean().item(), rel=1e-6)
    assert e.elbo_stderr == pytest.approx((total.std() / math.sqrt(11)).item(), rel=1e-4)
    assert e.rate_nats + e.distortion_nats == pytest.approx(e.elbo_nats)
    assert sum(e.kl_per_step) == pytest.approx(e.rate_nats)
    assert e.bits_per_dim == pytest.approx(e.elbo_nats / math.log(2) / 64)
    assert e.importance_samples is None and e.iw_nats is None


def test_the_importance_bound_uses_its_k_and_tightens_with_it(model, pixels):
    x = pixels.float()
    numbers = range(11)
    with torch.no_grad():
        model.q.weight.mul_(30)  # an approximate posterior that is far off
    one, ten, many = (
        importance_bound(model, x, numbers, k, 0, None).mean().item() for k in (1, 10, 1000)
    )
    assert many < ten < one
    eps = normal_each(0, "importance 3", range(5), 3, 4).transpose(0, 1)
    w = sequential.log_weights(model, x[3].expand(5, 1, 8, 8), eps).double()
    expected = math.log(5) - w.logsumexp(0).item()
    assert importance_bound(model, x[3:4], range(3, 4), 5, 0, None).item() == pytest.approx(
        expected
    )


def test_every_image_is_evaluated_with_its_own_label(tiny_run, tiny_data, pixels):
    torch.manual_seed(0)
    told = models.build(replace(tiny_run.model, classes=3), (1, 8, 8)).eval()
    y = labels(tiny_data, "test", 3)
    settings = (told, pixels, 2, Data("blobs"), "test")
    whole = evaluate(*settings, y, importance_samples=3)
    parts = evaluate(*settings, y, importance_samples=3, rows=4)
    assert parts.elbo_nats == pytest.approx(whole.elbo_nats, rel=1e-5)
    assert parts.iw_nats == pytest.approx(whole.iw_nats, rel=1e-5)
    eps = normal_each(0, "latents", range(11), 3, 4).transpose(0, 1)
    b = sequential.bound(told, pixels.float(), eps, y)
    assert whole.elbo_nats == pytest.approx(b.total.mean().item(), rel=1e-6)
    other = evaluate(*settings, y.roll(1, 1), importance_samples=3)
    assert other.elbo_nats != pytest.approx(whole.elbo_nats, rel=1e-6)
    assert other.iw_nats != pytest.approx(whole.iw_nats, rel=1e-6)


def test_labels_of_a_split(tiny_data):
    y = labels(tiny_data, "test", 4)
    assert y.shape == (11, 4)
    assert torch.equal(y.argmax(1), torch.from_numpy(tiny_data.splits["test"].labels))
    assert labels(tiny_data, "test", 0).shape == (11, 0)
    bare = replace(tiny_data.splits["test"], labels=None)
    data = replace(tiny_data, splits=tiny_data.splits | {"test": bare})
    assert labels(data, "test", 0).shape == (11, 0)


def test_dynamic_binarisation_is_fixed_in_evaluation():
    pixels = torch.full((9, 1, 8, 8), 100, dtype=torch.uint8)
    data = Data("grey", "dynamic")
    whole = torch.cat([x for _, x in batches(pixels, 256, data, "test")])
    parts = torch.cat([x for _, x in batches(pixels, 256, data, "test", rows=4)])
    assert torch.equal(whole, parts)
    assert set(whole.unique().tolist()) == {0, 1}
    assert not torch.equal(whole[0], whole[1])
    assert abs(whole.mean().item() - 100 / 255) < 0.08


def test_a_cost_on_intensities_is_never_called_a_bound(tiny_run):
    config = replace(tiny_run.model, likelihood="cross_entropy")
    model = models.build(config, (1, 8, 8)).eval()
    pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    e = evaluate(model, pixels, 256, Data("grey"), "test", importance_samples=2)
    assert e.elbo_nats is None and e.bits_per_dim is None and e.iw_nats is None
    assert e.cross_entropy_cost_nats == pytest.approx(e.rate_nats + e.distortion_nats)


def test_the_papers_cost_of_grey_levels_stands_beside_their_bound(tiny_run):
    """Rate + cross-entropy of intensities and the mean image; binary pixels have none."""
    config = replace(tiny_run.model, likelihood="logistic")
    model = models.build(config, (1, 8, 8)).eval()
    pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    e = evaluate(model, pixels, 256, Data("grey"), "test")
    noise = ImageNoise(0, range(5)).normal("latents", model.steps, 5, *model.latents, axis=1)
    x = pixels / 255
    mean = model.likelihood(bound(model, x, noise).state).mean
    crossed = F.binary_cross_entropy(mean, x, reduction="sum").item() / 5
    assert e.cross_entropy_cost_nats == pytest.approx(e.rate_nats + crossed, rel=1e-5)
    assert e.bits_per_dim == pytest.approx(e.elbo_nats / (64 * math.log(2)))
    binary = models.build(tiny_run.model, (1, 8, 8)).eval()
    assert evaluate(binary, pixels // 128, 2, Data("b"), "test").cross_entropy_cost_nats is None


def test_some_images_are_spread_over_all():
    assert (
        subsample_indices(10, None)
        == subsample_indices(10, 10)
        == subsample_indices(10, 11)
        == slice(None)
    )
    assert subsample_indices(10, 4).tolist() == [0, 2, 5, 7]
    assert subsample_indices(10000, 3).tolist() == [0, 3333, 6666]
    assert len(set(subsample_indices(1001, 1000).tolist())) == 1000
