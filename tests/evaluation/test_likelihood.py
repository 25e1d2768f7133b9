"""Exact sums over a whole split, whatever the batch; bounds in their order."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from drawnet import models
from drawnet.data import subsample_indices
from drawnet.data.pipeline import View, labels
from drawnet.evaluation.likelihood import evaluate, importance_bound, measure
from drawnet.models import sequential
from drawnet.models.sequential import bound
from drawnet.nn.noise import ImageNoise, normal_each
from reference import view


@pytest.fixture
def model(tiny_run):
    torch.manual_seed(0)
    return models.build(tiny_run.model, (1, 8, 8)).eval()


@pytest.fixture
def held_out(tiny_data):
    return View(tiny_data, "test")


def test_every_image_counts_once_whatever_the_batch(model, held_out):
    whole = evaluate(model, held_out, importance_samples=7)
    for rows in (1, 4, 10):
        part = evaluate(model, held_out, importance_samples=7, rows=rows)
        assert part.images == 11
        assert part.elbo_nats == pytest.approx(whole.elbo_nats, rel=1e-5)
        assert part.iw_nats == pytest.approx(whole.iw_nats, rel=1e-5)
        assert part.kl_per_step == pytest.approx(whole.kl_per_step, rel=1e-4)


def test_figures_are_what_their_names_say(model, held_out):
    e = evaluate(model, held_out)
    assert (e.dataset, e.split, e.images) == ("blobs", "test", 11)
    eps = normal_each(0, "latents", range(11), 3, 4).transpose(0, 1)
    b = sequential.bound(model, held_out.pixels.float(), eps)
    total = b.total.double()
    assert e.elbo_nats == pytest.approx(total.mean().item(), rel=1e-6)
    assert e.elbo_stderr == pytest.approx((total.std() / math.sqrt(11)).item(), rel=1e-4)
    assert e.rate_nats + e.distortion_nats == pytest.approx(e.elbo_nats)
    assert sum(e.kl_per_step) == pytest.approx(e.rate_nats)
    assert e.bits_per_dim == pytest.approx(e.elbo_nats / math.log(2) / 64)
    assert e.importance_samples is None and e.iw_nats is None


def test_the_importance_bound_uses_its_k_and_tightens_with_it(model, held_out):
    x, y, numbers = held_out.pixels.float(), torch.zeros(11, 0), range(11)
    with torch.no_grad():
        model.q.weight.mul_(30)  # an approximate posterior that is far off
    one, ten, many = (
        importance_bound(model, x, y, numbers, k, 0).mean().item() for k in (1, 10, 1000)
    )
    assert many < ten < one
    eps = normal_each(0, "importance 3", range(5), 3, 4).transpose(0, 1)
    w = sequential.log_weights(model, x[3].expand(5, 1, 8, 8), eps).double()
    found = importance_bound(model, x[3:4], y[3:4], range(3, 4), 5, 0)
    assert found.item() == pytest.approx(math.log(5) - w.logsumexp(0).item())


def test_every_image_is_evaluated_with_its_own_label(tiny_run, tiny_data, held_out):
    torch.manual_seed(0)
    conditional = models.build(replace(tiny_run.model, classes=3), (1, 8, 8)).eval()
    whole = evaluate(conditional, held_out, importance_samples=3)
    parts = evaluate(conditional, held_out, importance_samples=3, rows=4)
    assert parts.elbo_nats == pytest.approx(whole.elbo_nats, rel=1e-5)
    assert parts.iw_nats == pytest.approx(whole.iw_nats, rel=1e-5)
    eps = normal_each(0, "latents", range(11), 3, 4).transpose(0, 1)
    x, y = held_out.pixels.float(), labels(tiny_data, "test", 3)
    b = sequential.bound(conditional, x, eps, y)
    assert whole.elbo_nats == pytest.approx(b.total.mean().item(), rel=1e-6)
    eps = torch.stack([normal_each(0, f"importance {k}", range(3), 3, 4) for k in range(11)])
    w = [
        sequential.log_weights(conditional, x[[k] * 3], eps[k].transpose(0, 1), y[[k] * 3])
        for k in range(11)
    ]
    expected = math.log(3) - torch.stack(w).logsumexp(1).mean().item()
    assert whole.iw_nats == pytest.approx(expected, rel=1e-5)
    others = (tiny_data.splits["test"].labels + 1) % 3
    other = evaluate(conditional, view(held_out.pixels, labels=others), importance_samples=3)
    assert other.elbo_nats != pytest.approx(whole.elbo_nats, rel=1e-6)
    assert other.iw_nats != pytest.approx(whole.iw_nats, rel=1e-6)


def test_a_part_of_a_split_is_evaluated_as_if_it_were_the_split(tiny_run, tiny_data):
    """With the labels of its own images, and noise by its own count."""
    conditional = models.build(replace(tiny_run.model, classes=3), (1, 8, 8)).eval()
    some, images = subsample_indices(11, 4), tiny_data.splits["test"]
    alone = view(images.pixels[some], labels=images.labels[some])
    for name, values in measure(conditional, View(tiny_data, "test", part=some)).items():
        assert values.shape[-1] == 4
        torch.testing.assert_close(values, measure(conditional, alone)[name])


def test_labels_of_a_split(tiny_data):
    y = labels(tiny_data, "test", 4)
    assert y.shape == (11, 4)
    assert torch.equal(y.argmax(1), torch.from_numpy(tiny_data.splits["test"].labels))
    assert labels(tiny_data, "test", 0).shape == (11, 0)
    bare = replace(tiny_data.splits["test"], labels=None)
    data = replace(tiny_data, splits=tiny_data.splits | {"test": bare})
    assert labels(data, "test", 0).shape == (11, 0)


def test_dynamic_binarisation_is_fixed_in_evaluation(model):
    grey = view(np.full((9, 1, 8, 8), 100, np.uint8), 256, binarise="dynamic")
    whole, parts = (torch.cat([x for _, x, _ in grey.batches(model, n)]) for n in (9, 4))
    assert torch.equal(whole, parts)
    assert set(whole.unique().tolist()) == {0, 1}
    assert not torch.equal(whole[0], whole[1])
    assert abs(whole.mean().item() - 100 / 255) < 0.08


def test_a_cost_on_intensities_is_never_called_a_bound(tiny_run):
    config = replace(tiny_run.model, likelihood="cross_entropy")
    model = models.build(config, (1, 8, 8)).eval()
    pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    e = evaluate(model, view(pixels, 256), importance_samples=2)
    assert e.elbo_nats is None and e.bits_per_dim is None and e.iw_nats is None
    assert e.cross_entropy_cost_nats == pytest.approx(e.rate_nats + e.distortion_nats)


def test_the_papers_cost_of_grey_levels_stands_beside_their_bound(tiny_run):
    """Rate + cross-entropy of intensities and the mean image; binary pixels have none."""
    config = replace(tiny_run.model, likelihood="logistic")
    model = models.build(config, (1, 8, 8)).eval()
    pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    e = evaluate(model, view(pixels, 256))
    noise = ImageNoise(0, range(5)).normal("latents", model.steps, 5, *model.latents, axis=1)
    x = pixels / 255
    mean = model.likelihood(bound(model, x, noise).state).mean
    crossed = F.binary_cross_entropy(mean, x, reduction="sum").item() / 5
    assert e.cross_entropy_cost_nats == pytest.approx(e.rate_nats + crossed, rel=1e-5)
    assert e.bits_per_dim == pytest.approx(e.elbo_nats / (64 * math.log(2)))
    binary = models.build(tiny_run.model, (1, 8, 8)).eval()
    assert evaluate(binary, view(pixels // 128)).cross_entropy_cost_nats is None


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
