"""One file is a model: it comes back as it was, and nothing else is taken for one."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from drawnet import kernels, models
from drawnet import weights as trained
from drawnet.drawing import sample
from drawnet.errors import UserError, write_atomically, write_text
from drawnet.training import checkpoint
from drawnet.training.config import from_json, to_json
from drawnet.training.state import Session


@pytest.fixture
def saved(tiny_run, tmp_path):
    model = models.build(tiny_run.model, (1, 8, 6))
    path = tmp_path / "model.safetensors"
    checkpoint.save_model(path, model, tiny_run, {"examples": 5})
    return model, path


def test_a_model_comes_back_as_it_was(saved, tiny_run):
    model, path = saved
    for place in (path, path.parent):
        back = checkpoint.load_model(place)
        assert back.run == tiny_run
        assert back.network.shape == (1, 8, 6)
        assert back.header.examples == 5
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, back.network.state_dict()[name])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", ["auto", "off"])
def test_kernels_are_installed_unless_they_are_off(mode, precision, saved, tiny_run, tiny_data):
    if isinstance(why := kernels.library(), str):
        pytest.skip(why)
    pixels = torch.from_numpy(tiny_data.splits["train"].pixels)
    session = Session.fresh(replace(tiny_run, precision=precision), pixels, 2, kernels=mode)
    assert {n.precision for n in (session.model, session.average)} == {getattr(torch, precision)}
    loaded = checkpoint.load_model(saved[1], mode).network
    for network in (session.model, session.average, loaded):
        assert ("unrolled" in vars(network)) == (mode == "auto")


def test_a_run_survives_json(tiny_run):
    assert from_json(json.loads(json.dumps(to_json(tiny_run)))) == tiny_run


def rewritten(path, change):
    tensors, header = checkpoint.load_tensors(path)
    change(tensors, header)
    checkpoint.save_tensors(path, tensors, header)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, h: t["c"].view(-1)[3:4].fill_(math.nan), "'c' has values that are not finite"),
        (lambda t, h: t.pop("c"), "lacks tensor 'c'"),
        (lambda t, h: t.update(d=torch.zeros(1)), "foreign tensor 'd'"),
        (lambda t, h: t.update(c=torch.zeros(2)), r"'c' is \(2,\), not \(1, 8, 6\)"),
        (lambda t, h: h["run"]["model"].update(kind="drow"), "did you mean 'draw'"),
        (lambda t, h: h["run"]["model"].update(colour=1), r"run\.model\.colour is unknown"),
        (lambda t, h: h.pop("run"), "run is missing"),
    ],
)
def test_unsound_models_are_named(saved, change, message):
    _, path = saved
    rewritten(path, change)
    with pytest.raises(UserError, match=message) as caught:
        checkpoint.load_model(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_foreign_files_are_named(saved, tmp_path):
    _, path = saved
    with pytest.raises(UserError, match="not there"):
        checkpoint.load_model(tmp_path / "nowhere")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(2)}, foreign)
    with pytest.raises(UserError, match="not drawnet's"):
        checkpoint.load_model(foreign)
    whole = path.read_bytes()
    for damage in (b"", b"hello", whole[:20], whole[: len(whole) // 2]):
        path.write_bytes(damage)
        with pytest.raises(UserError, match="damaged or not a safetensors") as caught:
            checkpoint.load_model(path)
        assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")

    def fail(scratch):
        scratch.write_text("half of it")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def bundled(saved, tmp_path, monkeypatch):
    """A package whose weights/ holds one model, called toy."""
    weights = tmp_path / "weights"
    weights.mkdir()
    monkeypatch.setattr(trained, "FOLDER", weights)
    monkeypatch.chdir(tmp_path)
    (weights / "toy.safetensors").write_bytes(saved[1].read_bytes())
    return saved[0]


def test_weights_of_the_package_are_found_by_name(bundled):
    model = sample.load("toy")
    for name, tensor in bundled.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_a_path_comes_before_a_name(bundled, tiny_run, tmp_path):
    other = models.build(tiny_run.model, (1, 5, 5))
    (tmp_path / "toy").mkdir()
    checkpoint.save_model(tmp_path / "toy" / "model.safetensors", other, tiny_run, {})
    assert sample.load("toy").shape == (1, 5, 5)


def test_an_unknown_name_is_told_what_there_is(bundled, tmp_path):
    with pytest.raises(UserError, match=r"tyo is not there.*\(of those that do: toy\)"):
        sample.load("tyo")
    (tmp_path / "weights" / "toy.safetensors").unlink()
    with pytest.raises(UserError, match="none do: train one"):
        sample.load("toy")
