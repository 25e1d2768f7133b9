"""Runs as people treat them: a model at once, more examples, other intervals, weights to begin from."""

import os
import signal
import warnings
from dataclasses import asdict, replace

import pytest
import torch

import kills
from drawnet import models
from drawnet.errors import UserError
from drawnet.training import checkpoint, loop
from drawnet.training.schedule import learning_rate
from reference import assert_same_runs, lines, stop_after, tensors

NOT_YET = "is not yet validated: the weights as they stood at {} of 160 examples"


def stopped(run, data, folder, monkeypatch, steps):
    with monkeypatch.context() as patch:
        stop_after(patch, steps, lambda: os.kill(os.getpid(), signal.SIGTERM))
        loop.train(run, data, folder)


def unvalidated(folder, examples):
    with pytest.warns(UserWarning, match=NOT_YET.format(examples)):
        found = checkpoint.load_model(folder)
    assert not found.header.validated and found.header.valid == {}
    assert found.header.examples == examples
    return found


def same_weights(network, state, part="average."):
    values = network.state_dict()
    return all(torch.equal(values[name], state[part + name]) for name in values)


# ---- a model from the first checkpoint on -------------------------------------------------------


def test_a_run_has_a_model_from_its_first_checkpoint_on(tiny_run, tiny_data, tmp_path, monkeypatch):
    """… with every checkpoint a newer one, until validation chooses; then the rule that only it does."""
    run, found, real = replace(tiny_run, save_every=16), [], loop.Loop.save

    def watched(self, chosen):
        real(self, chosen)
        seen = self.session.progress.examples_seen
        if seen < 48:
            found.append(seen)
            assert same_weights(unvalidated(tmp_path, seen).network, tensors(tmp_path)[0])

    monkeypatch.setattr(loop.Loop, "save", watched)
    loop.train(run, tiny_data, tmp_path)
    assert found == [16, 32]
    header = checkpoint.load_model(tmp_path).header
    valid = {row["examples"]: row["valid_nats"] for row in lines(tmp_path) if "valid_nats" in row}
    assert header.validated and header.examples == min(valid, key=valid.get)


def test_weights_that_validation_did_not_choose_never_replace_those_it_did(
    tiny_run, tiny_data, tmp_path, monkeypatch
):
    real = loop.Loop.evaluate

    def worse(self):
        if self.session.progress.examples_seen > 48:
            return {}
        return real(self)

    monkeypatch.setattr(loop.Loop, "evaluate", worse)
    loop.train(tiny_run, tiny_data, tmp_path)
    assert checkpoint.load_model(tmp_path).header.examples == 48


def test_ctrl_c_before_the_first_evaluation_leaves_a_model(
    tiny_run, tiny_data, tmp_path, monkeypatch
):
    stopped(tiny_run, tiny_data, tmp_path / "parts", monkeypatch, 2)
    unvalidated(tmp_path / "parts", 16)
    loop.train(tiny_run, tiny_data, tmp_path / "parts", resume=True)
    loop.train(tiny_run, tiny_data, tmp_path / "whole")
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


def test_a_slow_run_does_not_wait_for_its_first_checkpoint(
    tiny_run, tiny_data, tmp_path, monkeypatch
):
    """After a minute there is one; and one only, however long the next step takes."""
    saves, real = [], loop.Loop.save

    def counted(self, chosen):
        saves.append(self.session.progress.examples_seen)
        real(self, chosen)

    monkeypatch.setattr(loop.Loop, "save", counted)
    monkeypatch.setattr(loop, "SOON", 0.0)
    loop.train(replace(tiny_run, save_every=10**6, evaluate_every=10**6), tiny_data, tmp_path)
    assert saves == [8, 160]


def test_there_is_no_model_without_a_checkpoint(tiny_run, tiny_data, tmp_path, monkeypatch):
    """A kill between the first evaluation and the first checkpoint must not leave weights alone."""

    class Killed(Exception):
        pass

    def kill(*_):
        raise Killed

    run = replace(tiny_run, evaluate_every=8, save_every=10**6)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop.Session, "save", kill)
        loop.train(run, tiny_data, tmp_path / "parts")
    loop.train(run, tiny_data, tmp_path / "parts", resume=True)
    loop.train(run, tiny_data, tmp_path / "whole")
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


def test_a_kill_between_the_first_checkpoint_and_its_model_loses_nothing(
    tiny_run, tiny_data, tmp_path, monkeypatch
):
    stopped(tiny_run, tiny_data, tmp_path, monkeypatch, 3)
    (tmp_path / "model.safetensors").unlink()
    loop.train(tiny_run, tiny_data, tmp_path, resume=True)
    assert checkpoint.load_model(tmp_path).header.validated


def test_a_model_that_diverged_is_not_written(tiny_run, tiny_data, tmp_path, monkeypatch, capsys):
    run = replace(tiny_run, warmup=0, lr=1e38, save_every=8, evaluate_every=10**6)
    with pytest.raises(UserError, match="not finite"):
        loop.train(run, tiny_data, tmp_path)
    assert "no checkpoint: " in capsys.readouterr().err
    if (tmp_path / "model.safetensors").exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint.load_model(tmp_path)  # all of it is finite


# ---- going on -----------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", ["none", "exponential"])
def test_a_run_goes_on_for_longer(decay, tiny_run, tiny_data, tmp_path, capsys):
    """… bit for bit as if it had been so long from the start."""
    run = replace(tiny_run, decay=decay, examples=80)
    loop.train(run, tiny_data, tmp_path / "whole")
    loop.train(replace(run, examples=48), tiny_data, tmp_path / "parts")
    capsys.readouterr()
    loop.train(run, tiny_data, tmp_path / "parts", resume=True)
    what = {"none": "stays 0.001", "exponential": "goes on being halved every 1,000,000 examples"}
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "learning rate" in x]
    assert line.startswith("80 examples instead of 48, from 48 on: ") and what[decay] in line
    assert_same_runs(tmp_path / "whole", tmp_path / "parts", metrics=False)


def test_under_a_cosine_the_rate_becomes_that_of_the_longer_run(
    tiny_run, tiny_data, tmp_path, monkeypatch, capsys
):
    run, rates, real = replace(tiny_run, examples=160), [], loop.update

    def watched(session, *rest):
        done = real(session, *rest)
        rates.append(session.optimizer.param_groups[0]["lr"])
        return done

    monkeypatch.setattr(loop, "update", watched)
    loop.train(replace(run, examples=48), tiny_data, tmp_path)
    loop.train(run, tiny_data, tmp_path, resume=True)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "learning rate" in x]
    assert "rises from 2e-05 to the 0.000885 that a run of this length has here" in line
    assert "falls to 2e-05 at its end" in line
    short = replace(run, examples=48)
    assert rates[:6] == [learning_rate(short, 8 * k) for k in range(6)]
    assert rates[6:] == [learning_rate(run, 8 * k) for k in range(6, 20)]
    header = checkpoint.load_model(tmp_path).header
    assert header.lengthened == ((48, 48),) and header.run.examples == 160
    loop.train(run, tiny_data, tmp_path, resume=True)
    assert tensors(tmp_path)[1]["progress"]["lengthened"] == [[48, 48]]


def test_before_its_rate_falls_a_run_is_lengthened_as_if_it_had_been_longer_from_the_start(
    tiny_run, tiny_data, tmp_path, monkeypatch, capsys
):
    run = replace(tiny_run, examples=160, decay="wsd", lr=1e-3)
    loop.train(run, tiny_data, tmp_path / "whole")
    stopped(replace(run, examples=80), tiny_data, tmp_path / "parts", monkeypatch, 5)
    loop.train(run, tiny_data, tmp_path / "parts", resume=True)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "learning rate" in x]
    assert line.endswith("the learning rate stays 0.001, and falls to 2e-05 at its end")
    whole, parts = (tensors(tmp_path / name)[0] for name in ("whole", "parts"))
    for name, value in whole.items():
        torch.testing.assert_close(value, parts[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("decay", ["none", "exponential", "cosine", "wsd"])
def test_a_run_cannot_be_made_shorter(decay, tiny_run, tiny_data, tmp_path, monkeypatch):
    run = replace(tiny_run, decay=decay)
    stopped(run, tiny_data, tmp_path, monkeypatch, 2)
    before = (tmp_path / "training.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"a run of 160 examples, which cannot be made shorter"):
        loop.train(replace(run, examples=80), tiny_data, tmp_path, resume=True)
    assert (tmp_path / "training.safetensors").read_bytes() == before


def test_what_enters_no_result_may_change(tiny_run, tiny_data, tmp_path, monkeypatch):
    changes = {"evaluate_every": 40, "save_every": 16, "skip_limit": 3, "recompute": 2}
    loop.train(tiny_run, tiny_data, tmp_path / "whole")
    stopped(tiny_run, tiny_data, tmp_path / "parts", monkeypatch, 7)
    loop.train(replace(tiny_run, **changes), tiny_data, tmp_path / "parts", resume=True)
    whole, parts = (tensors(tmp_path / name) for name in ("whole", "parts"))
    for name, value in whole[0].items():
        torch.testing.assert_close(value, parts[0][name], rtol=1e-5, atol=1e-7)
    evaluated = [row["examples"] for row in lines(tmp_path / "parts") if "valid_nats" in row]
    assert evaluated == [48, 80, 120, 160]
    assert {name: parts[1]["run"][name] for name in changes} == changes
    for other in ({"lr": 0.5}, {"validation_images": 3}, {"batch": 16}):
        with pytest.raises(UserError, match=f"holds another run: {next(iter(other))} is"):
            loop.train(replace(tiny_run, **other), tiny_data, tmp_path / "parts", resume=True)


# ---- given weights ------------------------------------------------------------------------------


@pytest.fixture
def given(tiny_run, tiny_data, tmp_path):
    run = replace(tiny_run, examples=48)
    loop.train(run, tiny_data, tmp_path / "given")
    return tmp_path / "given"


def test_a_run_begins_from_given_weights(given, tiny_run, tiny_data, tmp_path, monkeypatch, capsys):
    """… of model and average; where they came from stays with the run."""
    weights, _ = tensors(given, "model")
    run, seen, real = replace(tiny_run, init=str(given), seed=5), [], loop.train_step

    def watched(session, *rest):
        if not seen:
            seen.append({k: v.clone() for k, v in session.state().items()})
        return real(session, *rest)

    monkeypatch.setattr(loop, "train_step", watched)
    loop.train(run, tiny_data, tmp_path / "run")
    for part in ("model.", "average."):
        assert all(torch.equal(seen[0][part + name], value) for name, value in weights.items())
    path = given / "model.safetensors"
    assert f"the weights are those of {path} after 48 examples" in capsys.readouterr().err
    origin = {"path": str(path), "digest": checkpoint.digest(weights), "examples": 48}
    assert asdict(checkpoint.load_model(tmp_path / "run").header.origin) == origin
    assert tensors(tmp_path / "run")[1]["origin"] == origin


@pytest.mark.parametrize("kl_warmup", [0, 16])
def test_trained_weights_under_a_rising_weight_of_the_rate_are_spoken_of(
    kl_warmup, given, tiny_run, tiny_data, tmp_path, capsys
):
    run = replace(tiny_run, init=str(given), kl_warmup=kl_warmup)
    loop.train(run, tiny_data, tmp_path / "run")
    assert ("--kl-warmup 0" in capsys.readouterr().err) == bool(kl_warmup)


def test_a_run_that_began_from_weights_resumes_without_them(
    given, tiny_run, tiny_data, tmp_path, monkeypatch
):
    run = replace(tiny_run, init=str(given))
    loop.train(run, tiny_data, tmp_path / "whole")
    stopped(run, tiny_data, tmp_path / "parts", monkeypatch, 5)
    given.rename(tmp_path / "moved")
    loop.train(run, tiny_data, tmp_path / "parts", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": 13}, "does not fit: model.units is 12 there and 13 here"),
        ({"classes": 3}, "does not fit: model.classes is 0 there and 3 here"),
        ("vae", "does not fit: it is a draw, and this run's model a vae"),
        ("size", "it draws images of 1x8x8, and these are 1x7x8"),
    ],
)
def test_weights_of_another_model_are_refused(
    given, tiny_run, tiny_data, tmp_path, changes, message
):
    run, data = replace(tiny_run, init=str(given)), tiny_data
    if changes == "size":
        splits = {k: replace(v, pixels=v.pixels[:, :, 1:]) for k, v in data.splits.items()}
        data = replace(data, splits=splits)
    elif changes == "vae":
        run = replace(run, model=models.config("vae")())
    else:
        run = replace(run, model=replace(run.model, **changes))
    with pytest.raises(UserError) as caught:
        loop.train(run, data, tmp_path / "run")
    assert message in str(caught.value) and str(given) in str(caught.value)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_weights_that_are_nowhere(tiny_run, tiny_data, tmp_path):
    with pytest.raises(UserError, match="is not there, nor do weights of that name come with"):
        loop.train(replace(tiny_run, init="nothing"), tiny_data, tmp_path / "run")


def test_a_setting_without_tensors_may_differ(given, tiny_run, tiny_data, tmp_path):
    run = replace(tiny_run, init=str(given), model=replace(tiny_run.model, steps=4))
    loop.train(run, tiny_data, tmp_path / "run")
    assert checkpoint.load_model(tmp_path / "run").network.steps == 4


def test_the_kill_at_a_first_checkpoint(tmp_path):
    """Whole, in its place, and no model yet: the next session has one."""

    class Chance:
        choice, randint, random = (lambda *_: "renamed"), (lambda *_: 1), (lambda *_: 0.5)

    assert kills.kill("vae", tmp_path / "run", Chance(), writing=True) == -signal.SIGKILL
    assert {p.name for p in (tmp_path / "run").glob("*.safetensors")} == {"training.safetensors"}
    kills.train_to(kills.position(tmp_path / "run") + 8, "vae", tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").exists()
