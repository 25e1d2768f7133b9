"""Contracts over whatever stands in models/, recipes/ and data/, found by listing the folders."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch

from drawnet import checkpoint, data, listing, models, recipes, run, step, train

MODELS = sorted(listing.models())
RECIPES = sorted(listing.recipes())


def small(kind):
    """A model's defaults, with few steps."""
    return replace(models.config(kind)(), steps=3)


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_trains_stops_resumes_and_comes_back(
    kind, tiny_run, tiny_data, tmp_path, monkeypatch
):
    job = replace(tiny_run, model=small(kind), examples=48, evaluate_every=16, save_every=16)
    train.train(job, tiny_data, tmp_path / "whole")
    real, count = train.train_step, iter(range(1, 100))

    def counted(*arguments):
        if next(count) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_step", counted)
        train.train(job, tiny_data, tmp_path / "parts")
    train.train(job, tiny_data, tmp_path / "parts", resume=True)
    for name in ("training.safetensors", "model.safetensors"):
        whole, parts = (checkpoint.load_tensors(tmp_path / p / name)[0] for p in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[k], parts[k]) for k in whole), name
    back = checkpoint.load_model(tmp_path / "whole")
    assert back.run.model == job.model


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_keeps_the_step_contract(kind):
    model = models.build(small(kind), (1, 8, 8))
    assert isinstance(model, step.StepModel)
    x, eps = torch.rand(5, 1, 8, 8).round(), torch.randn(3, 5, *model.latents)
    b = step.bound(model, x, eps)
    assert b.rate.shape == (3, 5) and b.distortion.shape == (5,) and b.total.isfinite().all()
    *_, state = step.generate(model, eps)
    mean = model.likelihood(state).mean
    assert mean.shape == x.shape and mean.min() >= 0 and mean.max() <= 1
    assert all(raw.shape == (5, 5) for raw in model.windows(state).values())
    b.total.sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_sound_run(name):
    job = recipes.get(name)
    assert job.recipe == name
    run.check(job)
    assert run.from_json(json.loads(json.dumps(run.to_json(job)))) == job
    assert job.data.name in data.names() or job.data.name == "FOLDER"
    assert listing.recipes()[name][1].endswith((".", "channel.")), "a recipe says what it is"


def test_every_model_has_a_title():
    assert all(title for title in listing.models().values())
