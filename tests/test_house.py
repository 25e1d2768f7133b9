"""Contracts over whatever stands in models/, recipes/ and data/, found by listing the folders."""

import json
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
from drawnet.training import checkpoint, config
from reference import assert_resumes, installed, last

LEARNERS = models.names()
KINDS = {kind: models.module(kind).Model for kind in LEARNERS}
MODELS = [kind for kind in LEARNERS if issubclass(KINDS[kind], sequential.StepModel)]
SAMPLERS = [kind for kind in LEARNERS if issubclass(KINDS[kind], ImplicitModel)]
GENERATIVE = [kind for kind in LEARNERS if not issubclass(KINDS[kind], Classifier)]
CONDITIONAL = [kind for kind in LEARNERS if hasattr(models.config(kind), "classes")]
RECIPES = sorted(recipes.names())


@pytest.mark.parametrize(
    ("kind", "settings"), [(k, {}) for k in GENERATIVE] + [(k, {"classes": 3}) for k in CONDITIONAL]
)
def test_a_model_trains_stops_resumes_and_comes_back(kind, settings, tiny_run, tiny_data, tmp_path):
    model = small(kind, **settings)
    run = replace(tiny_run, model=model, examples=48, evaluate_every=16, save_every=16)
    assert_resumes(run, tiny_data, tmp_path, 3)
    assert checkpoint.load_model(tmp_path / "whole").run.model == model


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", LEARNERS)
def test_bfloat16_rounds_the_products_of_training_and_no_more(kind, fused):
    """Three models once took --precision and did nothing with it."""
    torch.manual_seed(0)
    model = models.build(small(kind, **({"classes": 3} if kind in CONDITIONAL else {})), (1, 8, 8))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    model = installed(model) if fused else model
    x = torch.rand(6, 1, 8, 8).round()
    y = model.encode_labels(torch.arange(6) % 3, 3) if kind in CONDITIONAL else torch.zeros(6, 0)
    for group in model.parameter_groups():
        how, losses = LossOptions(group=group), []
        for model.precision in (torch.float32, torch.bfloat16):
            losses.append(model.loss(x, y, ImageNoise(0, range(6)), how).loss)
        exact, rough = losses
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
def test_a_conditional_model_depends_on_its_labels(kind):
    model = models.build(small(kind, classes=3), (1, 8, 8))
    for p in model.parameters():  # a fresh prior may start deaf
        torch.nn.init.normal_(p, std=0.1)
    assert model.classes == 3
    x, eps = torch.rand(5, 1, 8, 8).round(), torch.randn(model.steps, 5, *model.latents)
    pair = [
        pipeline.one_hot(torch.tensor(labels), 3) for labels in ([0, 1, 2, 0, 1], [1, 1, 0, 0, 2])
    ]
    other = torch.tensor([True, False, True, False, True])
    bounds = [sequential.bound(model, x, eps, y) for y in pair]
    assert torch.equal(bounds[0].state.y, pair[0])
    weights = [sequential.log_weights(model, x, eps, y) for y in pair]
    drawn = [last(sequential.generate(model, eps, y)) for y in pair]
    redrawn = [last(sequential.reconstruct(model, x, eps, y)) for y in pair]
    posteriors = [model.infer(x, model.start(y))[0].mu for y in pair]
    results = [[b.total for b in bounds], weights, posteriors]
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


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_sound_run(name):
    job = recipes.get(name)
    assert job.recipe == name
    assert config.from_json(json.loads(json.dumps(config.to_json(job)))) == job
    assert job.data.name in data.names() or job.data.name == "FOLDER"
    assert catalogue.recipe_titles()[name].endswith((".", "channel.")), "a recipe says what it is"


def test_every_model_has_a_title():
    assert all(title for title in catalogue.model_titles().values())
