"""`train` from the shell: stopped, gone on with from anywhere, lengthened, begun from given weights."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reference
from drawnet.training import checkpoint
from reference import stop_after, tensors

SMALL = ["--batch", 16, "--model.steps", 2, "--model.units", 8, "--precision", "float32"]
SMALL += ["--examples", 160]


def drawnet(capsys, *words):
    """A command's exit status, output, and the lines that it wrote to standard error."""
    status, out, err = reference.drawnet(capsys, *words)
    return status, out, err.splitlines()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    (place / "letters").mkdir()
    for k in range(60):
        pixels = np.zeros((8, 8), np.uint8)
        pixels[k % 6 : k % 6 + 2, k // 6 % 5 : k // 6 % 5 + 3] = 255
        Image.fromarray(pixels).save(place / "letters" / f"{k}.png")
    return place


@pytest.fixture
def place(pictures, tmp_path, monkeypatch):
    """A working folder with pictures, and beside it another one."""
    shutil.copytree(pictures, tmp_path / "place")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


@pytest.fixture
def stopped(place, capsys, monkeypatch):
    """A run of which half is done, and another working folder."""
    with monkeypatch.context() as patch:
        stop_after(patch, 5, lambda: os.kill(os.getpid(), signal.SIGINT))
        words = ["train", "images", "--data.name", "letters", *SMALL, "--out", "run"]
        assert drawnet(capsys, *words)[0] == 130
    monkeypatch.chdir(place.parent / "elsewhere")
    return place / "run"


def test_a_stopped_run_has_a_model_that_says_what_it_is(stopped, capsys):
    words = ["not yet validated: the weights as they stood at 80 of 160 examples"]
    for command in (["sample", stopped, "-n", 2, "--out", "s.png"], ["evaluate", stopped]):
        status, _, err = drawnet(capsys, *command)
        assert status == 0 and err == [f"drawnet: {stopped / 'model.safetensors'} is {words[0]}"]


def test_a_run_goes_on_anywhere_with_the_settings_that_it_has(stopped, place, capsys, monkeypatch):
    status, out, err = drawnet(capsys, "train", "images", "--out", stopped, "--resume")
    assert status == 0 and "160 examples" in out
    assert "images: begins at 80 of 160 examples" in err
    monkeypatch.chdir(place)
    words = ["train", "images", "--data.name", "letters", *SMALL, "--out", "whole"]
    assert drawnet(capsys, *words)[0] == 0
    whole, parts = (tensors(place / name) for name in ("whole", "run"))
    for found in (whole, parts):
        found[1]["run"]["data"].pop("name")
        found[1]["progress"].pop("seconds"), found[1]["progress"].pop("cpu_seconds")
    assert whole[1] == parts[1]
    assert all((value == parts[0][name]).all() for name, value in whole[0].items())
    assert checkpoint.load_model(stopped).data.path == str(place / "letters")


def test_the_same_command_goes_on_too(stopped, place, capsys, monkeypatch):
    """From where it was given, with its relative path; and from elsewhere."""
    words = ["train", "images", "--data.name", "letters", *SMALL, "--resume"]
    assert drawnet(capsys, *words, "--out", stopped)[0] == 0
    monkeypatch.chdir(place)
    assert drawnet(capsys, *words, "--out", "run")[0] == 0


def test_other_settings_are_refused(stopped, capsys):
    for option, value, said in (
        ("--lr", 0.5, "lr is 0.002 there and 0.5 here"),
        ("--model.units", 9, "model.units is 8 there and 9 here"),
        ("--examples", 100, "a run of 160 examples, which cannot be made shorter"),
    ):
        words = ["train", "images", "--out", stopped, "--resume", option, value]
        status, _, err = drawnet(capsys, *words)
        assert status == 2 and said in err[-1]
    status, _, err = drawnet(capsys, "train", "mnist", "--out", stopped, "--resume")
    assert status == 2 and "recipe is 'images' there and 'mnist' here" in err[-1]


def test_a_run_is_lengthened_and_its_intervals_change(stopped, capsys):
    words = ["train", "images", "--out", stopped, "--resume", "--examples", 240]
    status, out, err = drawnet(capsys, *words, "--evaluate-every", 32, "--save-every", 48)
    assert status == 0 and "240 examples" in out
    assert any("240 examples instead of 160, from 80 on: the learning rate" in x for x in err)
    assert sum("valid_nats" in line for line in err) == 6  # 96, 128, …, 224 and the last, 240


def test_pictures_that_have_changed_are_noticed(stopped, place, capsys):
    Image.new("L", (8, 8), 255).save(place / "letters" / "0.png")
    before = (stopped / "training.safetensors").read_bytes()
    status, _, err = drawnet(capsys, "train", "images", "--out", stopped, "--resume")
    assert status == 2 and "was trained on other data: as many images, but other pixels" in err[-1]
    assert (stopped / "training.safetensors").read_bytes() == before


def test_options_of_the_data_stay_with_the_run(place, capsys, monkeypatch):
    arrays = {"small": np.zeros((30, 6, 6), np.uint8), "large": np.zeros((30, 9, 9), np.uint8)}
    np.savez("p.npz", **arrays)
    words = ["train", "images", "--data.name", "p.npz", *SMALL, "--out", "run"]
    with monkeypatch.context() as patch:
        stop_after(patch, 5, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert drawnet(capsys, *words, "--data.options", "key", "large")[0] == 130
    assert drawnet(capsys, "train", "images", "--out", "run", "--resume")[0] == 0
    assert checkpoint.load_model(Path("run")).run.data.options == {"key": "large"}


def test_a_damaged_checkpoint_names_the_one_before(stopped, capsys):
    drawnet(capsys, "train", "images", "--out", stopped, "--resume")
    path = stopped / "training.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    status, _, err = drawnet(capsys, "train", "images", "--out", stopped, "--resume")
    assert status == 2 and "training.previous.safetensors is the one before: rename it" in err[-1]


def test_resume_starts_a_run_that_is_not_there(place, capsys):
    words = ["train", "images", "--data.name", "letters", *SMALL, "--out", "new", "--resume"]
    assert drawnet(capsys, *words)[0] == 0


def test_a_run_begins_from_weights_with_their_model(place, capsys):
    words = ["train", "images", "--data.name", "letters", "--precision", "float32"]
    words += ["--batch", 16, "--examples", 32]
    first = [*words, "--model.steps", 3, "--model.units", 9, "--out", "first"]
    assert drawnet(capsys, *first)[0] == 0
    status, _, err = drawnet(capsys, *words, "--init", "first", "--out", "second")
    assert status == 0 and any(line.startswith("the weights are those of") for line in err)
    model = checkpoint.load_model(Path("second"))
    assert model.run.model == checkpoint.load_model(Path("first")).run.model
    assert model.run.init == "first" and model.header.origin.examples == 32
    status, _, err = drawnet(capsys, *words, "--init", "first", "--model.units", 8, "--out", "x")
    assert status == 2 and "does not fit: model.units is 9 there and 8 here" in err[-1]
    status, _, err = drawnet(capsys, *words, "--init", "mnist", "--out", "x")
    assert status == 2 and "it draws images of 1x28x28, and these are 1x8x8" in err[-1]
    status, _, err = drawnet(capsys, *words, "--init", "nowhere", "--out", "x")
    assert status == 2 and "nowhere is not there" in err[-1]
