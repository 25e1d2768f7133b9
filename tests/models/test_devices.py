"""Every model runs where its weights lie: on `meta`, a device without numbers, from the loss to samples.

There an operation that looks at a value fails by itself.  One that mixes devices often does not
(a product of a meta tensor and one on the CPU passes), so that `OneDevice` looks at every operation.
"""

import typing
from dataclasses import fields

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import small
from drawnet import models
from drawnet.models import sequential
from drawnet.models.base import Classifier, ImplicitModel, LikelihoodModel, LossOptions
from drawnet.models.glimpse import Glimpse
from drawnet.models.sequential import StepModel
from drawnet.nn.noise import DrawNoise, ImageNoise, Noise
from drawnet.nn.recurrent import Layer

MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
B = 4


class OneDevice(TorchDispatchMode):
    """Fail where an operation takes tensors of several devices, indices among them; numbers go along."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        devices = {t.device.type for t in tensors(args)}
        assert len(devices) < 2 or func in MOVES, f"{func} takes tensors on {sorted(devices)}"
        return func(*args, **kwargs or {})


def tensors(value):
    if isinstance(value, torch.Tensor):
        yield from [value] if value.dim() else []
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors(part)


def test_the_watch_sees_what_the_device_itself_does_not():
    here, there = torch.ones(3, 3), torch.ones(3, 3, device="meta")
    assert (there @ here).device.type == "meta"
    for mixed in (lambda: there @ here, lambda: there[torch.tensor([0, 1])]):
        with OneDevice(), pytest.raises(AssertionError, match=r"\['cpu', 'meta'\]"):
            mixed()
    with OneDevice():
        assert (2 * there.copy_(here) + here.to("meta")).device.type == "meta"


NUMBERS = {
    "chairs": {"classes": 124},
    "darn": {"hidden": 0, "tanh": 5},
    "draw": {"read": 0, "write": 0, "classes": 3},
    "draw_variant": {"read": 0, "write": 0, "classes": 3},
    "glimpse": {"window_clip": 1.0},
}
"""Numbers on which the course of a computation depends."""


def alternatives(kind):
    """The settings of a model by default, and each with one of its choices made otherwise."""
    config = models.config(kind)
    types, numbers = typing.get_type_hints(config), NUMBERS.get(kind, {})
    if getattr(small(kind), "classes", None) == 0:
        numbers = {"classes": 3} | numbers
    yield {}
    for field in fields(config):
        choices = [True, False] if types[field.name] is bool else typing.get_args(types[field.name])
        choices = [*choices, *([numbers[field.name]] if field.name in numbers else [])]
        yield from ({field.name: c} for c in choices if c != field.default)


CASES = [(kind, settings) for kind in models.names() for settings in alternatives(kind)]


def test_the_cases_are_all_there_are():
    assert {kind for kind, _ in CASES} == set(models.names())
    likelihoods = {s["likelihood"] for k, s in CASES if k == "stem_draw" and "likelihood" in s}
    assert likelihoods == {"logistic", "coupled", "mixture", "cross_entropy"}
    assert ("draw_variant", {"cell": "gru"}) in CASES and ("conv_draw", {"classes": 3}) in CASES


FEW = {"steps": 2, "chain": 2, "glimpses": 2, "hidden": 12, "units": 12, "generator": 12}


def on_meta(kind, settings):
    """(model, x, y), all on meta."""
    shape = (2, 8, 8) if kind == "chairs" else (1, 9, 8)
    config = models.config(kind)
    few = {k: v for k, v in FEW.items() if hasattr(config, k)}
    model = models.build(config(**few | settings), shape).to("meta")
    y = model.encode_labels(torch.arange(B) % max(1, model.classes), model.classes).to("meta")
    return model, torch.rand(B, *shape, device="meta"), y


def is_there(*tensors):
    assert tensors and all(t.device.type == "meta" for t in tensors)


@pytest.mark.parametrize(("kind", "settings"), CASES, ids=str)
def test_a_model_learns_and_draws_where_it_lies(kind, settings):
    """In float32, and with operands rounded where the layers do that; autocast knows no meta."""
    model, x, y = on_meta(kind, settings)
    rounds = any(isinstance(m, Layer) for m in model.modules())
    for precision in (torch.float32, torch.bfloat16) if rounds and not settings else (None,):
        model.precision = precision or (torch.bfloat16 if rounds else torch.float32)
        runs(model, x, y)


def runs(model, x, y):
    with OneDevice():
        learns(model.train(), x, y)
        with torch.no_grad():
            evaluates(model.eval(), x, y)
        if isinstance(model, StepModel):
            draws(model, x, y)
        if isinstance(model, ImplicitModel):
            with torch.no_grad():
                is_there(model.frames(3, ImageNoise(0, range(3), "meta")))
        if isinstance(model, Classifier):
            is_there(model.classify(x))
        if isinstance(model, Glimpse):
            is_there(*(t for state in model.states(x) for t in state))


def learns(model, x, y):
    noise = Noise(0, 0, device="meta")
    for group, parameters in model.parameter_groups().items():
        terms = model.loss(x, y, noise, LossOptions(0, 0.5, group))
        is_there(terms.loss, *terms.metrics.values())
        assert terms.loss.shape == (B,)
        terms.loss.mean().backward()
        is_there(*(p.grad for p in parameters if p.grad is not None))


def evaluates(model, x, y):
    terms = model.loss(x, y, ImageNoise(0, range(B), "meta"), LossOptions())
    is_there(terms.loss, *terms.metrics.values())
    if isinstance(model, LikelihoodModel):
        copies, labels = (part.repeat_interleave(2, 0) for part in (x, y))
        is_there(model.log_weights(copies, labels, DrawNoise(0, range(B), range(2), "meta")))


def draws(model, x, y):
    eps = Noise(0, 0, device="meta").normal("latents", model.steps, B, *model.latents, axis=1)
    *_, state = sequential.generate(model, eps, y)
    pixels = model.likelihood(state)
    is_there(*state, pixels.mean, pixels.sample(torch.rand_like(x)), pixels.log_prob_map(x))
    is_there(*model.windows(state).values(), sequential.encode(model, x, eps, y))
    for step in sequential.redraw(model, x, eps, y):
        is_there(*step.state, step.rate, step.noise)


@pytest.mark.parametrize(("kind", "precision"), [("draw", torch.float32), ("vae", torch.bfloat16)])
def test_recomputation_stays_where_the_model_is(kind, precision):
    model, x, y = on_meta(kind, {})
    model.precision = precision
    with OneDevice():
        terms = model.loss(x, y, Noise(0, 0, device="meta"), LossOptions(recompute=1))
        terms.loss.mean().backward()
    is_there(*(p.grad for p in model.parameters()))
