"""A model and data of one's own on the command line, by module:Class or file.py:Class."""

import sys
from pathlib import Path

import pytest

from drawnet import cli
from drawnet.cli.train import outside_names
from drawnet.errors import UserError
from drawnet.training import checkpoint

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_model.py"
DATA = """
import numpy as np

def bars(n=60):
    pixels = np.zeros((n, 8, 8), np.uint8)
    pixels[np.arange(n), :, np.arange(n) % 8] = 255
    return pixels, np.arange(n) % 2
"""
SHORT = ["--examples", "32", "--batch", "8", "--precision", "float32", "--device", "cpu"]


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("vae.py").write_text(EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    Path("own_bars.py").write_text(DATA, encoding="utf-8")
    yield tmp_path
    forget()


def forget():
    for name in ("vae", "own_bars"):
        sys.modules.pop(name, None)


def run(*words):
    with pytest.raises(SystemExit) as end:
        cli.main(words)
        raise SystemExit(0)
    return end.value.code


def test_it_trains_is_saved_by_its_name_and_drawn(own, capsys):
    words = ["train", "images", "--data.name", "own_bars.py:bars", "--model=vae.py:Tiny"]
    assert run(*words, "--model.units", "6", *SHORT, "--out", "run") == 0
    saved = checkpoint.load_model(Path("run"))
    assert saved.kind == "vae:Tiny" and saved.run.model.units == 6
    assert saved.run.data.name == "own_bars:bars"
    forget()
    assert run("sample", "run", "-n", "4", "--out", "a.png") == 2
    assert "the model is vae:Tiny, of a file outside drawnet" in capsys.readouterr().err
    assert run("--import", "vae.py", "sample", "run", "-n", "4", "--out", "a.png") == 0
    assert Path("a.png").exists()
    capsys.readouterr()
    assert run("evaluate", "run", "--split", "test") == 2
    assert "the data are own_bars:bars, of a file outside drawnet" in capsys.readouterr().err
    assert run("evaluate", "run", "--data.name", "own_bars.py:bars") == 0


def test_another_model_of_ours_by_its_name(own):
    words = ["train", "images", "--data.name", "own_bars.py:bars", "--model", "vae", *SHORT]
    assert run(*words, "--model.units", "5", "--out", "run") == 0
    assert checkpoint.load_model(Path("run")).kind == "vae"


def test_what_is_wrong_is_one_line(own, capsys):
    for words, why in (
        (["train", "images", "--model"], "--model needs a name"),
        (["train", "images", "--model", "vea"], "no model is called 'vea'; did you mean 'vae'"),
        (["train", "images", "--data.name", "own_bars.py:bar"], "did you mean 'bars'"),
        (["--import"], "--import needs a module, or a file"),
        (["--import", "nowhere.py", "list"], "nowhere.py is not there"),
    ):
        assert run(*words) == 2
        err = capsys.readouterr().err
        assert why in err and err.count("\n") == 1


def test_other_arguments_stay_as_they_are(own):
    words = ["--data.name", "digits", "--lr", "1", "--model.units=3", "--data.options", "a", "b"]
    assert outside_names(words) == ("", ["--data.name=digits", *words[2:]])
    with pytest.raises(UserError, match=r"--data\.name needs a name"):
        outside_names(["--data.name", "--lr", "1"])


def test_metrics_go_to_the_loggers_that_are_named(own):
    pytest.importorskip("tensorboard")
    words = ["train", "images", "--data.name", "own_bars.py:bars", "--model", "vae", *SHORT]
    assert run(*words, "--log", "tensorboard", "--out", "a") == 0
    assert run(*words, "--tensorboard", "--out", "b") == 0  # the former name
    for folder in ("a", "b"):
        assert list(Path(folder, "tensorboard").glob("events.*"))
