"""The chain: its step, its noises, the walk-back cost, and what it learns."""

import math
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from drawnet import models
from drawnet.drawing import sample
from drawnet.errors import UserError
from drawnet.models.base import LossOptions
from drawnet.models.gsn import GSNConfig
from drawnet.nn.noise import ImageNoise, Noise
from drawnet.training import loop

SMALL = GSNConfig(units=20, chain=4)


@pytest.fixture
def gsn():
    torch.manual_seed(0)
    model = models.build(SMALL, (1, 8, 8))
    for p in (model.b0, model.b1, model.b2):
        torch.nn.init.normal_(p)
    return model


def test_a_step_is_the_papers(gsn):
    x, h2, noise = torch.rand(3, 64), torch.randn(3, 20), Noise(0, 0)
    logits, after = gsn.step(x, h2, noise, 2)
    for b in range(3):
        h1 = torch.tanh(gsn.lower @ x[b] + gsn.upper.T @ h2[b] + gsn.b1)
        torch.testing.assert_close(logits[b], gsn.lower.T @ h1 + gsn.b0)
        e, f = (noise.normal(f"{k} 2", 3, 20)[b] for k in ("before", "after"))
        torch.testing.assert_close(after[b], torch.tanh(gsn.upper @ h1 + gsn.b2 + 2 * e) + 2 * f)


def test_salt_and_pepper_replace_their_share(gsn):
    x = torch.full((2000, 64), 0.3)
    corruption = gsn.corrupt(x, Noise(0, 0), 0)
    for value, share in ((0, 0.2), (1, 0.2), (0.3, 0.6)):
        assert (corruption == value).float().mean().item() == pytest.approx(share, abs=0.01)


def test_pixels_are_drawn_and_pass_no_gradient(gsn):
    logits = torch.full((2000, 64), -1.0, requires_grad=True)
    gsn.config = replace(SMALL, corruption=0.0)
    x = gsn.drawn(logits, Noise(0, 0), 0)
    assert set(x.unique().tolist()) == {0, 1} and not x.requires_grad
    assert x.mean().item() == pytest.approx(1 / (1 + math.e), abs=0.01)


def test_the_cost_is_the_sum_over_the_walk(gsn):
    x, noise = torch.rand(5, 1, 8, 8), Noise(0, 8)
    flat = x.flatten(1)
    found = gsn.loss(x, torch.zeros(5, 0), noise, LossOptions())
    seen, h2, costs = gsn.corrupt(flat, noise, 0), torch.zeros(5, 20), []
    for t in range(4):
        logits, h2 = gsn.step(seen, h2, noise, t)
        p = logits.sigmoid()
        costs.append(-(flat * p.log() + (1 - flat) * (1 - p).log()).sum(1))
        seen = gsn.drawn(logits, noise, t)
    torch.testing.assert_close(found.loss, sum(costs) / 64)
    torch.testing.assert_close(found.metrics["cost"], sum(costs) / 4)
    torch.testing.assert_close(found.metrics["last"], costs[-1])
    gsn.precision = torch.bfloat16
    rough = gsn.loss(x, torch.zeros(5, 0), noise, LossOptions())
    torch.testing.assert_close(rough.loss, found.loss, rtol=0.02, atol=0)
    assert rough.loss.dtype == torch.float32 and not torch.equal(rough.loss, found.loss)
    found.loss.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in gsn.parameters())


def test_the_frames_are_the_chain(gsn):
    gsn.init_from_mean(torch.linspace(0, 1, 64).view(1, 8, 8))
    with torch.no_grad():
        frames = gsn.frames(6, ImageNoise(3, range(6)))
        noise = ImageNoise(3, range(6))
        x = (noise.uniform("start", 6, 64) < torch.linspace(0, 1, 64)).float()
        assert torch.equal(frames[0].flatten(1), x)
        h2 = torch.zeros(6, 20)
        for t in range(4):
            logits, h2 = gsn.step(x, h2, noise, t)
            torch.testing.assert_close(frames[t + 1].flatten(1), logits.sigmoid())
            x = gsn.drawn(logits, noise, t)
    assert len(frames) == 5


def test_the_chains_of_the_benchmark(gsn):
    """One chain goes on where it is; many chains are the model's own, whatever the batch."""
    path = Path(__file__).parents[2] / "benchmarks" / "chains.py"
    chains = runpy.run_path(str(path))
    start = torch.rand(1, 8, 8)
    one = chains["one_chain"](gsn, start, 5, 3)
    with torch.no_grad():
        steps = gsn.chain(start.view(1, 64), ImageNoise(3, range(1)))
        for x in one:
            torch.testing.assert_close(x.view(1, 64), next(steps))
    many = chains["many_chains"](gsn, torch.stack([start, start.flip(1)]), (2, 5), 3)
    assert many.shape == (2, 2, 1, 8, 8)
    torch.testing.assert_close(many[:, 0], one[[1, 4]])


def test_it_learns_squares(tiny_run, tiny_data, tmp_path):
    config = GSNConfig(units=60, chain=20, sigma=0.5, corruption=0.2)
    run = replace(tiny_run, model=config, lr=5e-3, examples=8000, evaluate_every=4000)
    progress = loop.train(run, tiny_data, tmp_path)
    assert progress.best < 13  # the mean image would cost 26
    images = sample.sample(sample.load(tmp_path), 50)
    assert images.mean().item() == pytest.approx(9 / 64, abs=0.05)
    rows = (images[:, 0] > 0.5).any(2).sum(1).float()
    assert (rows - 3).abs().median() <= 1  # squares of 3, not the blur of all places


@pytest.mark.parametrize(
    "changes", [{"corruption": 1.2}, {"units": 0}, {"chain": 0}, {"sigma": -1}]
)
def test_senseless_settings(changes):
    with pytest.raises(UserError, match=f"--model.{next(iter(changes))}"):
        replace(SMALL, **changes)
