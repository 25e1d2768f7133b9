"""Several draws of what an evaluation draws: binarisation, latents, places of generated images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from drawnet import models
from drawnet.data import GeneratedImages, Images, load
from drawnet.data.pipeline import View
from drawnet.errors import UserError
from drawnet.evaluation.likelihood import Measure, evaluate, known, measure, over_draws
from reference import fresh, view
from scattered import digits, write_mnist


def test_generated_images_are_drawn_again_with_the_same_digits(tmp_path, monkeypatch):
    learn = np.concatenate([digits(6, 1), digits(4, 2)])
    write_mnist(tmp_path, monkeypatch, learn, digits(5, 3), 4)
    data = load("cluttered", tmp_path, clutter=0, size=60)
    first, second = (View(data, "test", draw=k).pixels for k in (0, 1))
    assert torch.equal(first, torch.from_numpy(data.splits["test"].pixels))
    assert torch.equal(first.sum((1, 2, 3)), second.sum((1, 2, 3))), "another digit, or cut"
    assert (first != second).any((1, 2, 3)).all(), "at the same place"
    some = View(data, "test", part=np.array([3, 1]), draw=1)
    assert torch.equal(some.pixels, second[[3, 1]])


def test_binarisation_is_drawn_again():
    grey = view(np.full((9, 1, 8, 8), 100, np.uint8), 256, binarise="dynamic")
    model = fresh("vae", (1, 8, 8), latents=2, units=4)
    ((_, x, _),) = grey.batches(model)
    ((_, again, _),) = replace(grey, draw=1).batches(model)
    assert not torch.equal(x, again)
    assert torch.equal(x, next(replace(grey, draw=0).batches(model))[1])


def test_means_and_deviations_over_draws(tiny_run, tiny_data):
    torch.manual_seed(0)
    model = models.build(tiny_run.model, (1, 8, 8)).eval()
    held_out = View(tiny_data, "test")
    found = over_draws(model, held_out, 3, seed=5)
    each = torch.stack([measure(model, held_out, seed=5 + k)["nats"] for k in range(3)])
    assert found["nats"].mean == pytest.approx(each.mean().item())
    assert found["nats"].sd == pytest.approx(each.mean(1).std().item())
    assert found["nats"].stderr == pytest.approx((each.mean(0).std() / 11**0.5).item())
    assert evaluate(model, held_out, seed=5).elbo_nats == pytest.approx(each[0].mean().item())


def test_a_classifier_over_draws_of_its_images(tmp_path):
    pixels = np.zeros((6, 1, 8, 8), np.uint8)
    source = GeneratedImages(
        (6, 1, 8, 8), lambda n: np.uint8(n % 251)[:, None, None, None] + pixels[:1], pixels, ""
    )
    grey = view(source[:], 256, np.arange(6) % 2)
    images = Images(source[:], np.arange(6) % 2, source)
    data = replace(grey.data, splits=grey.data.splits | {"test": images})
    model = fresh("glimpse", (1, 8, 8), glimpses=1, units=4, read=2, classes=2).eval()
    torch.nn.init.normal_(model.out.weight)
    found = over_draws(model, View(data, "test"), 2)
    assert found["cross_entropy"].sd > 0
    with pytest.raises(UserError, match="leave out --draws"):
        over_draws(model, grey, 2)


def test_what_is_known_of_a_mean():
    assert known(Measure(1.0, 0.5)) == {"mean": 1.0, "stderr": 0.5}
    assert known(Measure(1.0, None, 0.1)) == {"mean": 1.0, "stderr": None, "sd": 0.1}
