"""The generator of chairs: its labels, its loss, what it learns, and what it turns into."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drawnet import data, models
from drawnet.data.chairs import VIEWS, encoded
from drawnet.data.config import Data
from drawnet.errors import UserError
from drawnet.models.base import LossOptions
from drawnet.models.chairs import ChairsConfig, Stream
from drawnet.nn.noise import ImageNoise, Noise
from drawnet.training import checkpoint, loop

SMALL = ChairsConfig(classes=3 * 62, units=24, joint=48, features=16, num_downsamples=2)


@pytest.fixture(scope="module")
def chairs(tmp_path_factory):
    """Three procedural chairs of 16×16, every other azimuth held out."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield data.load("chair_views", models=3, size=16, channels=1)
    patch.undo()


@pytest.fixture
def network():
    torch.manual_seed(0)
    return models.build(SMALL, (2, 16, 16))


def test_what_is_held_out_is_not_seen(chairs):
    seen, held = (set(chairs.splits[k].labels.tolist()) for k in ("train", "test"))
    assert not seen & held and {k % 62 % 31 % 2 for k in seen} == {0}
    whole = data.chairs.renderings(models=3, size=16, channels=1)
    for images in chairs.splits.values():
        for k, x in zip(images.labels[:5], images.pixels[:5], strict=True):
            assert np.array_equal(x[0], whole.sprites[k // 62, k % 62, 0])
            assert np.array_equal(x[1], 255 * whole.masks[k // 62, k % 62])
    with pytest.raises(UserError, match="held is 'veiws'"):
        data.load("chair_views", models=3, size=16, held="veiws")
    styles = data.load("chair_views", models=10, size=16, channels=1, held="styles")
    assert {(k // 62 % 5, k % 62 // 31) for k in styles.splits["valid"].labels.tolist()} == {(4, 1)}


def test_labels_are_style_and_view():
    labels = torch.tensor([0, 62 + 40])
    y = models.of(SMALL).encode_labels(labels, 186)
    assert y.shape == (2, 7) and y[:, :3].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert torch.equal(y[:, 3:], torch.from_numpy(encoded(VIEWS[[0, 40]])))


def test_unpooling_and_convolution_are_one_layer():
    """Each layer of a stream: unpool (three zeros beside every place), then a 5 × 5 convolution."""
    torch.manual_seed(0)
    layer = Stream(SMALL, 1, 16).layers[0]
    x = torch.randn(2, 16, 4, 4)
    unpooled = torch.zeros(2, 16, 8, 8)
    unpooled[..., ::2, ::2] = x
    weight = layer.weight.flip(2, 3).transpose(0, 1)
    expected = torch.nn.functional.conv2d(unpooled, weight, layer.bias, padding=2)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_papers(network):
    x, y = torch.rand(4, 2, 16, 16), network.encode_labels(torch.tensor([0, 63, 90, 150]), 186)
    o = network.eval().loss(x, y, None, LossOptions())
    made = network(y)
    squares = ((made - x) ** 2).sum((2, 3))
    torch.testing.assert_close(o.loss, 10 * squares[:, 0] + squares[:, 1])
    torch.testing.assert_close(o.metrics["picture"], squares[:, 0] / 256)
    torch.testing.assert_close(o.metrics["mask"], squares[:, 1] / 256)


def test_training_transforms_and_passes_the_transformation_on(network):
    x, y = torch.rand(4, 2, 16, 16), network.encode_labels(torch.arange(4), 186)
    seen = []
    hook = network.theta.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    network.train().loss(x, y, Noise(0, 0), LossOptions())
    network.eval().loss(x, y, None, LossOptions())
    hook.remove()
    assert seen[0].shape == (4, 9) and (seen[0] != 0).all()
    assert not seen[1].any()


def test_it_learns_and_turns_its_chairs(chairs, tiny_run, tmp_path):
    run = replace(tiny_run, model=SMALL, data=Data("chair_views"), lr=3e-3, examples=6400, batch=32)
    run = replace(run, evaluate_every=1600, ema=0.9)
    loop.train(run, chairs, tmp_path)
    model = checkpoint.load_model(tmp_path)
    blank = ((255 - chairs.splits["valid"].pixels[:, 0]) / 255.0) ** 2
    assert model.header.valid["picture"] < 0.35 * blank.mean()
    with torch.no_grad():
        trajectory = model.network.frames(2, ImageNoise(0, range(2)))
    assert trajectory.shape == (32, 2, 1, 16, 16) and torch.equal(trajectory[0], trajectory[-1])
    assert not torch.allclose(trajectory[0], trajectory[8], atol=0.05)


def test_labels_that_no_model_has(chairs, tiny_run, tmp_path):
    run = replace(tiny_run, model=replace(SMALL, classes=62), data=Data("chair_views"))
    with pytest.raises(UserError, match="labels from"):
        loop.train(run, chairs, tmp_path / "never")


@pytest.mark.parametrize(
    ("held", "models", "unseen"), [("views", 3, 3 * 30), ("styles", 10, 2 * 31)]
)
def test_the_benchmark_judges_a_run(held, models, unseen, chairs, tiny_run, tmp_path, monkeypatch):
    """The model's error is over the views that it has not seen, as its validation and test are."""
    options = {"models": str(models), "size": "16", "channels": "1", "held": held}
    run = replace(tiny_run, model=replace(SMALL, classes=models * 62), examples=320, ema=0.9)
    run = replace(run, data=Data("chair_views", options=options))
    made = run.data.load()
    loop.train(run, made, tmp_path / "run")
    words = ["chairs.py", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "chairs.py"))["main"]()
    found = json.loads((tmp_path / "out" / "errors.json").read_text())
    network, e = checkpoint.load_model(tmp_path / "run").network, []
    for images in (made.splits["valid"], made.splits["test"]):
        y = network.encode_labels(torch.from_numpy(images.labels), network.classes)
        with torch.no_grad():
            gap = network(y).clamp(0, 1)[:, :1] - torch.from_numpy(images.pixels[:, :1] / 255)
        e.append((gap**2).flatten(1).sum(1))
    assert len(torch.cat(e)) == unseen
    assert found["model"]["squared_error"] == pytest.approx(torch.cat(e).mean().item(), rel=1e-4)
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"views.png", "morph.gif"}
