"""Training from Python: data of every kind in, a run with its model out."""

import math
import os
import signal
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import drawnet
from conftest import blobs, classes_of, make_data
from drawnet.data.pipeline import View
from drawnet.errors import UserError
from drawnet.models.vae import VAEConfig
from drawnet.training.config import Run

SHORT = {"examples": 64, "batch": 8, "steps": 3, "units": 8, "latents": 3, "precision": "float32"}
PIXELS = blobs(60, 0)


@pytest.fixture(scope="module")
def trained():
    return drawnet.fit(make_data(), **SHORT, device="cpu")


def test_a_run_has_model_metrics_evaluation_and_samples(trained):
    assert trained.sample(5).shape == (5, 1, 8, 8)
    assert torch.equal(trained.sample(5, seed=1), drawnet.sample(trained.model, 5, seed=1))
    last = trained.metrics[-1]
    assert last["examples"] == 64 and math.isfinite(last["valid_nats"])
    e = trained.evaluate(importance_samples=3)
    view = View(make_data(), "test", "dynamic")
    assert e == drawnet.evaluate(trained.model, view, importance_samples=3)
    with pytest.raises(UserError, match="no split is called 'tests'; did you mean 'test'"):
        trained.evaluate("tests")


def test_labels_condition_the_model(trained):
    assert trained.model.classes == 3
    pixels = 255 * np.concatenate([blobs(60, k) for k in range(3)])
    run = drawnet.fit((pixels, classes_of(pixels)), **SHORT, device="cpu")
    assert run.model.classes == 3 and run.settings.model.classes == 3
    assert run.sample(3, labels=[1]).shape == (3, 1, 8, 8)
    assert drawnet.fit(pixels, **SHORT, device="cpu").model.classes == 0


@pytest.mark.parametrize("shape", [(80, 8, 8), (80, 8, 8, 3)])
def test_grey_levels_and_colour_are_not_binarised(shape):
    pixels = np.random.default_rng(0).random(shape)
    short = {"examples": 16, "batch": 8, "precision": "float32", "device": "cpu"}
    run = drawnet.fit(pixels, steps=2, units=8, latents=2, **short)
    assert run.settings.data.binarise == "no" and run.settings.model.likelihood == "logistic"
    assert run.evaluate().bits_per_dim > 0 and "16" in repr(run) and "valid_nats" in repr(run)


def test_the_loop_is_that_of_the_command_line(tmp_path):
    from drawnet.training import loop

    run = drawnet.fit(make_data(), out=tmp_path / "a", **SHORT, device="cpu")
    loop.train(run.settings, make_data(), tmp_path / "b")
    ours, theirs = (drawnet.load(tmp_path / k).state_dict() for k in "ab")
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


def test_a_run_is_gone_on_with(tmp_path):
    changes = SHORT | {"decay": "none"}
    drawnet.fit(make_data(), out=tmp_path / "run", **changes, device="cpu")
    with pytest.raises(UserError, match="holds a run already"):
        drawnet.fit(make_data(), out=tmp_path / "run", **changes, device="cpu")
    changes["examples"] = 96
    more = drawnet.fit(make_data(), out=tmp_path / "run", resume=True, **changes, device="cpu")
    assert more.metrics[-1]["examples"] == 96


def test_an_interruption_keeps_what_there_is(tmp_path):
    class Stop:
        def log(self, step, metrics):
            os.kill(os.getpid(), signal.SIGINT)

        def close(self):
            self.closed = True

    assert threading.current_thread() is threading.main_thread()
    stop, changes = Stop(), SHORT | {"examples": 80_000, "evaluate_every": 16, "save_every": 16}
    run = drawnet.fit(make_data(), out=tmp_path / "run", log=stop, **changes, device="cpu")
    assert 16 <= run.metrics[-1]["examples"] < 80_000 and stop.closed
    assert run.sample(2).shape == (2, 1, 8, 8)


def test_a_temporary_run_can_be_saved(trained, tmp_path):
    path = trained.save(tmp_path / "kept.safetensors")
    assert torch.equal(drawnet.sample(drawnet.load(path), 3), trained.sample(3))


def test_a_model_by_configuration_name_or_class(tmp_path, monkeypatch):
    short = {"examples": 16, "batch": 8, "precision": "float32", "device": "cpu"}
    vae = drawnet.fit(make_data(), model=VAEConfig(units=6), latents=3, **short)
    assert type(vae.model).__name__ == "VAE" and vae.settings.model == VAEConfig(6, latents=3)
    assert drawnet.fit(make_data(), model="vae", units=5, **short).settings.model.units == 5
    run = Run("mine", VAEConfig(units=4), examples=8, batch=8, precision="float32")
    assert drawnet.fit(make_data(), run, lr=0.5, device="cpu").settings.lr == 0.5


@dataclass(frozen=True)
class NoModel:
    units: int = 3


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"unit": 3}, "no setting is called 'unit'; did you mean 'units'"),
        ({"lr": -1.0}, "--lr is -1.0; it must be greater than 0"),
        ({"recipe": "mnits"}, "no recipe is called 'mnits'; did you mean 'mnist'"),
        ({"model": "vea"}, "no model is called 'vea'; did you mean 'vae'"),
        ({"model": VAEConfig}, "give a configuration"),
        ({"model": NoModel()}, "no class in .* has Config = NoModel"),
        ({"log": "tensorbord"}, "no logger is called 'tensorbord'; did you mean 'tensorboard'"),
        ({"log": object()}, "object is no logger: it needs log"),
        ({"binarise": "no", "likelihood": "logistic"}, "is for grey levels"),
    ],
)
def test_what_does_not_go_is_said_before_training(changes, why, tmp_path):
    with pytest.raises(UserError, match=why):
        drawnet.fit(make_data(), out=tmp_path / "run", **({"device": "cpu"} | changes))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
