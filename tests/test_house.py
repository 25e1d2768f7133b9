"""Contracts over whatever stands in models/, recipes/ and data/, found by listing the folders."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch

from conftest import small
from drawnet import data, models, recipes
from drawnet.cli import catalogue
from drawnet.data import pipeline
from drawnet.errors import UserError
from drawnet.models import sequential
from drawnet.models.base import Classifier, ImplicitModel, LossOptions
from drawnet.nn.noise import ImageNoise
from drawnet.training import checkpoint, config, loop

LEARNERS = models.names()
KINDS = {kind: models.module(kind).Model for kind in LEARNERS}
MODELS = [kind for kind in LEARNERS if issubclass(KINDS[kind], sequential.StepModel)]
SAMPLERS = [kind for kind in LEARNERS if issubclass(KINDS[kind], ImplicitModel)]
UNTOLD = [kind for kind in LEARNERS if not issubclass(KINDS[kind], Classifier)]
TOLD = [kind for kind in LEARNERS if hasattr(models.config(kind), "classes")]
RECIPES = sorted(recipes.names())


@pytest.mark.parametrize(
    ("kind", "settings"), [(k, {}) for k in UNTOLD] + [(k, {"classes": 3}) for k in TOLD]
)
def test_a_model_trains_stops_resumes_and_comes_back(
    kind, settings, tiny_run, tiny_data, tmp_path, monkeypatch
):
    model = small(kind, **settings)
    job = replace(tiny_run, model=model, examples=48, evaluate_every=16, save_every=16)
    loop.train(job, tiny_data, tmp_path / "whole")
    real, count = loop.train_step, iter(range(1, 100))

    def counted(*arguments):
        if next(count) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", counted)
        loop.train(job, tiny_data, tmp_path / "parts")
    loop.train(job, tiny_data, tmp_path / "parts", resume=True)
    for name in ("training.safetensors", "model.safetensors"):
        whole, parts = (checkpoint.load_tensors(tmp_path / p / name)[0] for p in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[k], parts[k]) for k in whole), name
    back = checkpoint.load_model(tmp_path / "whole")
    assert back.run.model == job.model


@pytest.mark.parametrize("kind", LEARNERS)
def test_bfloat16_rounds_the_products_of_training_and_no_more(kind):
    """Three models once took --precision and did nothing with it."""
    torch.manual_seed(0)
    model = models.build(small(kind, **({"classes": 3} if kind in TOLD else {})), (1, 8, 8))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x = torch.rand(6, 1, 8, 8).round()
    y = model.encode_labels(torch.arange(6) % 3, 3) if kind in TOLD else torch.zeros(6, 0)
    for player in model.players:
        exact, rough = (
            model.objective(
                x, y, ImageNoise(0, range(6)), LossOptions(precision, player=player)
            ).loss
            for precision in (torch.float32, torch.bfloat16)
        )
        assert rough.dtype == torch.float32 and not torch.equal(rough, exact)
        torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.02)
        assert (rough - exact).abs().mean() < 0.02 * exact.abs().mean()


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_keeps_the_step_contract(kind):
    model = models.build(small(kind), (1, 8, 8))
    assert isinstance(model, sequential.StepModel)
    x, eps = torch.rand(5, 1, 8, 8).round(), torch.randn(model.steps, 5, *model.latents)
    b = sequential.bound(model, x, eps)
    assert (
        b.rate.shape == (model.steps, 5) and b.distortion.shape == (5,) and b.total.isfinite().all()
    )
    *_, state = sequential.generate(model, eps)
    mean = model.likelihood(state).mean
    assert mean.shape == x.shape and mean.min() >= 0 and mean.max() <= 1
    assert all(raw.shape == (5, 5) for raw in model.windows(state).values())
    b.total.sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", MODELS)
def test_a_conditional_model_hears_what_it_is_told(kind):
    model = models.build(small(kind, classes=3), (1, 8, 8))
    for p in model.parameters():  # a fresh prior may start deaf
        torch.nn.init.normal_(p, std=0.1)
    assert model.classes == 3
    x, eps = torch.rand(5, 1, 8, 8).round(), torch.randn(model.steps, 5, *model.latents)
    told = [
        pipeline.one_hot(torch.tensor(labels), 3) for labels in ([0, 1, 2, 0, 1], [1, 1, 0, 0, 2])
    ]
    other = torch.tensor([True, False, True, False, True])
    bounds = [sequential.bound(model, x, eps, y) for y in told]
    assert torch.equal(bounds[0].state.y, told[0])
    weights = [sequential.log_weights(model, x, eps, y) for y in told]
    drawn = [last(sequential.generate(model, eps, y)) for y in told]
    redrawn = [last(sequential.reconstruct(model, x, eps, y)) for y in told]
    results = [[b.total for b in bounds], weights]
    results += [[model.likelihood(s).mean for s in states] for states in (drawn, redrawn)]
    for one, two in results:
        assert ((one != two).view(5, -1).any(1) == other).all()
    bounds[0].total.sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", MODELS)
def test_labels_and_models_must_fit(kind):
    x, y = torch.rand(5, 1, 8, 8).round(), pipeline.one_hot(torch.arange(5) % 3, 3)
    for classes, wrong in ((3, None), (0, y), (2, y), (3, y[:4])):
        model = models.build(small(kind, classes=classes), (1, 8, 8))
        eps = torch.randn(model.steps, 5, *model.latents)
        for function, images in (
            (sequential.bound, (x,)), (sequential.log_weights, (x,)),
            (sequential.generate, ()), (sequential.reconstruct, (x,)),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="labels y"):
                list(function(model, *images, eps, wrong))
    with pytest.raises(UserError, match="classes"):
        small(kind, classes=-1)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_sampler_makes_images_each_of_its_own_noise(kind):
    torch.manual_seed(0)
    model = models.build(small(kind), (1, 8, 8)).eval()
    with torch.no_grad():
        whole = model.frames(5, ImageNoise(0, range(5)))
        parts = [model.frames(len(k), ImageNoise(0, k)) for k in (range(2), range(2, 5))]
    assert whole.shape[1:] == (5, 1, 8, 8) and whole.min() >= 0 and whole.max() <= 1
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    assert not torch.equal(whole[-1, 0], whole[-1, 1])


def last(states):
    *_, state = states
    return state


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_sound_run(name):
    job = recipes.get(name)
    assert job.recipe == name
    config.check(job)
    assert config.from_json(json.loads(json.dumps(config.to_json(job)))) == job
    assert job.data.name in data.names() or job.data.name == "FOLDER"
    assert catalogue.recipe_titles()[name].endswith((".", "channel.")), "a recipe says what it is"


def test_every_model_has_a_title():
    assert all(title for title in catalogue.model_titles().values())
