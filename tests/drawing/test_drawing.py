"""What a model does with pictures: completes them, goes from one to another, says what it reads."""

import math

import pytest
import torch

from drawnet.data import pipeline
from drawnet.drawing import sample
from drawnet.models import latent, sequential
from drawnet.nn import distributions
from reference import SHAPE, STEPPING, drawing, pictures


def final(model, states):
    *_, state = states
    return model.likelihood(state).mean


@pytest.mark.parametrize("kind", STEPPING)
def test_a_morph_begins_with_one_picture_redrawn_and_ends_with_the_other(kind):
    model, pair = drawing(kind), pictures(2)
    eps = latent.latent_noise(model, 5, "morph", range(1)).expand(-1, 2, *model.latents)
    ends = final(model, sequential.reconstruct(model, pair, eps))
    way = final(model, latent.morphing(model, pair, 7, seed=5))
    torch.testing.assert_close(way[[0, -1]], ends, atol=1e-4, rtol=0)
    assert len(way) == 7 and (way[1:] - way[:-1]).flatten(1).abs().amax(1).min() > 1e-6


def test_a_morph_fades_from_label_to_label():
    model, pair = drawing(classes=3), pictures(2)
    states = list(latent.morphing(model, pair, 5, labels=[0, 2], seed=5))
    y = torch.linspace(0, 1, 5)
    assert torch.allclose(states[-1].y, torch.stack((1 - y, 0 * y, y), 1))


def test_the_great_circle():
    torch.manual_seed(0)
    a, b = torch.randn(2, 4, 9)
    b *= a.norm() / b.norm()
    way = distributions.spherical(a, b, torch.linspace(0, 1, 5))
    assert way.shape == (4, 5, 9)
    torch.testing.assert_close(way[:, 0], a)
    torch.testing.assert_close(way[:, 4], b)
    norms, points = way.transpose(0, 1).flatten(1).norm(dim=1), way.transpose(0, 1).flatten(1)
    torch.testing.assert_close(norms, a.norm().expand(5))
    cosines = (points[1:] * points[:-1]).sum(1) / a.norm() ** 2
    theta = math.acos(float((a * b).sum() / a.norm() ** 2))
    torch.testing.assert_close(cosines, torch.tensor(theta / 4).cos().expand(4))
    same = distributions.spherical(a, a, torch.linspace(0, 1, 3))
    torch.testing.assert_close(same, a[:, None].expand(4, 3, 9))


@pytest.mark.parametrize("kind", STEPPING)
@pytest.mark.parametrize("classes", [0, 3])
def test_a_completion_keeps_what_is_known_and_differs_in_the_rest(kind, classes):
    model, x = drawing(kind, classes=classes), pictures(1)[0]
    known = torch.zeros(8, 8, dtype=torch.bool)
    known[:4] = True
    rounds = list(latent.completing(model, x, known, 3, seed=2, rounds=4))
    assert len(rounds) == 5
    for seen in rounds:
        assert seen.shape == (3, *SHAPE)
        assert torch.equal(seen[:, :, :4], x[:, :4].expand(3, 1, 4, 8))
    assert not torch.equal(rounds[-1][0], rounds[-1][1])
    assert not torch.equal(rounds[-1], rounds[-2])
    again = list(latent.completing(model, x, known, 3, seed=2, rounds=4))
    assert torch.equal(torch.stack(rounds), torch.stack(again))
    fewer = list(latent.completing(model, x, known, 2, seed=2, rounds=4))
    torch.testing.assert_close(fewer[-1], rounds[-1][:2], atol=1e-4, rtol=0)


def test_a_completion_starts_from_a_likely_sample_of_its_own():
    model, x = drawing(), pictures(1)[0]
    known = torch.ones(8, 8, dtype=torch.bool)
    known[4:] = False
    start = latent._proposed(model, x, known, 6, (), 3)[0].mean
    blank = torch.where(known, x, 0.5)  # the lower half is left out of the choice
    assert torch.equal(latent._proposed(model, blank, known, 6, (), 3)[0].mean, start)
    every = final(
        model, sequential.generate(model, latent.latent_noise(model, 3, "propose", range(6 * 32)))
    )
    gains = []
    for mean, group in zip(start, every.view(6, 32, *SHAPE), strict=True):
        likely = (x * group + (1 - x) * (1 - group))[:, :, :4].log().flatten(1).sum(1)
        (place,) = (group == mean).flatten(1).all(1).nonzero().flatten().tolist()
        gains.append(likely[place] - likely.mean())
    assert torch.stack(gains).mean() > 3


def test_labels_of_a_completion_are_heeded():
    model, x = drawing(classes=3), pictures(1)[0]
    known = torch.ones(8, 8, dtype=torch.bool)
    for labels, expected in (([2], [2, 2, 2]), ([0, 2, 1], [0, 2, 1])):
        _, y = latent._proposed(model, x, known, 3, labels, 0)
        assert y.argmax(1).tolist() == expected


def test_the_rates_of_samples_are_the_bounds():
    model = drawing(classes=3)
    *_, state = latent.sampling(model, range(4, 9), seed=3)
    rates = sample.rates(model, state, range(4, 9), seed=3)
    uniform = sample.uniform_each(3, "see", range(4, 9), *SHAPE)
    x = (uniform < model.likelihood(state).mean).float()
    b = sequential.bound(model, x, latent.latent_noise(model, 3, "read", range(4, 9)), state.y)
    torch.testing.assert_close(rates, b.rate, rtol=1e-3, atol=1e-3)
    assert rates.shape == (model.steps, 5)


def test_what_a_model_reads_is_by_its_bounds():
    model, x = drawing(classes=3), pictures(4)
    p = sample.reads_as(model, x, seed=1, draws=5)
    torch.testing.assert_close(p.sum(1), torch.ones(4))
    eps = latent.latent_noise(model, 1, "label", range(20))
    for k in range(4):
        w = torch.stack([
            sequential.log_weights(
                model, x[k].expand(5, *SHAPE), eps[:, 5 * k : 5 * k + 5],
                pipeline.one_hot(torch.full((5,), label), 3),
            ).logsumexp(0)
            for label in range(3)
        ])  # fmt: skip
        torch.testing.assert_close(p[k], w.softmax(0), atol=1e-4, rtol=1e-4)
