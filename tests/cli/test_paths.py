"""Every path of every command: whatever stands there, one line, status 2, in time, nothing left."""

import json
import os
import runpy
import signal
import sys
import typing
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import make_run, small
from drawnet import cli, models
from drawnet.cli import catalogue
from drawnet.compression import files as compression
from drawnet.data.config import Data
from drawnet.errors import UserError, check_folder, check_target, check_targets, expand, one_line
from drawnet.evaluation import compare
from drawnet.models.draw import DrawConfig
from drawnet.training import checkpoint

TOOLS = Path(__file__).parents[2] / "tools"
SHORT = ["--examples", "8", "--batch", "8", "--validation-images", "4"]
STUDY = ["ablate", "mnist", "--images", "8", "--variants", "baseline", "--seeds", "1"]
OUT = ["--out", "made.png"]

MNIST = ["net.safetensors", "--data.name", "mnist"]

READ = {
    "evaluate run": ["evaluate", "@"],
    "sample run": ["sample", "@", "-n", "1", *OUT],
    "reconstruct run": ["reconstruct", "@", "picture.png", *OUT],
    "encode run": ["encode", "@", "picture.png", "--out", "made.npz"],
    "encode image": ["encode", "net.safetensors", "picture.png", "@", "--out", "made.npz"],
    "complete run": ["complete", "@", "picture.png", *OUT],
    "complete image": ["complete", "net.safetensors", "picture.png", "@", *OUT],
    "complete mask": ["complete", "net.safetensors", "picture.png", "--mask", "@", *OUT],
    "morph run": ["morph", "@", "picture.png", "picture.png", *OUT],
    "morph image": ["morph", "net.safetensors", "picture.png", "@", *OUT],
    "reconstruct image": ["reconstruct", "net.safetensors", "picture.png", "@", *OUT],
    "classify run": ["classify", "@", "picture.png"],
    "classify image": ["classify", "reader.safetensors", "@"],
    "compress run": ["compress", "@", "picture.png", *OUT],
    "compress image": ["compress", "net.safetensors", "@", *OUT],
    "decompress file": ["decompress", "@", "--run", "net.safetensors", "--out", "made"],
    "decompress run": ["decompress", "net.draw", "--run", "@", "--out", "made"],
    "compare run": ["compare", "net.safetensors", "@"],
    "compare classifier": ["compare", "net.safetensors", "--classifier", "@"],
    "export run": ["export", "@", "--to", "torchscript", "--out", "made.pt"],
    "demo run": ["demo", "@", "--no-open", "--port", "0"],
    "train data.name": ["train", "FOLDER", "--data.name", "@", *SHORT, "--out", "made"],
    "train data.options": ["train", "FOLDER", "--data.name", "images", "--data.options",
                           "path", "@", *SHORT, "--out", "made"],
    "record run": ["record", "@", "--out", "made.json"],
    "record evaluation": ["record", "net.safetensors", "@", "--out", "made.json"],
    "results record": ["results", "@", "--out", "made.md"],
}  # fmt: skip
"""Commands, @ for a path that is read."""
WRITTEN = {
    "evaluate out": (["evaluate", "net.safetensors", "--images", "1", "--out", "@"], ".json"),
    "sample out": (["sample", "net.safetensors", "-n", "1", "--out", "@"], ".png"),
    "sample trajectory": (["sample", "net.safetensors", "-n", "1", *OUT, "--trajectory", "@"], ".gif"),
    "sample stages": (["sample", "net.safetensors", "-n", "1", *OUT, "--stages", "@"], ".png"),
    "demo export": (["demo", "net.safetensors", "--export", "@"], ".html"),
    "sample neighbours": (["sample", "net.safetensors", "-n", "1", *OUT, "--neighbours", "@"], ".png"),
    "reconstruct out": (["reconstruct", "net.safetensors", "picture.png", "--out", "@"], ".png"),
    "encode out": (["encode", "net.safetensors", "picture.png", "--out", "@"], ".npz"),
    "complete out": (["complete", "net.safetensors", "picture.png", "--out", "@"], ".gif"),
    "morph out": (["morph", "net.safetensors", *2 * ["picture.png"], "--out", "@"], ".png"),
    "classify out": (["classify", "reader.safetensors", "picture.png", "--out", "@"], ".gif"),
    "compress out": (["compress", "net.safetensors", "picture.png", "--out", "@"], ".draw"),
    "compare out": (["compare", "net.safetensors", "--out", "@"], ".md"),
    "export out": (["export", "net.safetensors", "--to", "torchscript", "--out", "@"], ".pt"),
    "record out": (["record", "net.safetensors", "--out", "@"], ".json"),
    "record weights": (["record", "net.safetensors", "--out", "made.json", "--weights", "@"],
                       ".safetensors"),
    "results out": (["results", "record.json", "--out", "@"], ".md"),
}  # fmt: skip
"""Commands, @ for a file that is written, and its suffix."""
FOLDERS = {
    "sample folder": ["sample", "net.safetensors", "-n", "1", "--out", "@/"],
    "complete folder": ["complete", "net.safetensors", "picture.png", "--out", "@/"],
    "morph folder": ["morph", "net.safetensors", *2 * ["picture.png"], "--out", "@/"],
    "train out": ["train", "digits_quick", *SHORT, "--out", "@"],
    "decompress out": ["decompress", "net.draw", "--run", "net.safetensors", "--out", "@"],
    "ablate out": [*STUDY, "--out", "@"],
}
"""Commands, @ for a folder that is written."""
DATA_DIRS = {
    "train data_dir": ["train", "mnist", *SHORT, "--out", "made", "--data-dir", "@"],
    "ablate data_dir": [*STUDY, "--out", "made", "--data-dir", "@"],
    "evaluate data_dir": ["evaluate", "mnist", "--data-dir", "@"],
    "sample data_dir": ["sample", "mnist", "-n", "1", *OUT, "--neighbours", "n.png", "--data-dir", "@"],
    "reconstruct data_dir": ["reconstruct", *MNIST, *OUT, "--data-dir", "@"],
    "encode data_dir": ["encode", *MNIST, "--out", "made.npz", "--data-dir", "@"],
    "complete data_dir": ["complete", *MNIST, *OUT, "--data-dir", "@"],
    "morph data_dir": ["morph", *MNIST, *OUT, "--data-dir", "@"],
    "compress data_dir": ["compress", "net.safetensors", "mnist", *OUT, "--data-dir", "@"],
    "classify data_dir": ["classify", "cluttered_4", "--data-dir", "@"],
    "compare data_dir": ["compare", "mnist", "--data-dir", "@"],
    "fetch data_dir": ["fetch", "mnist", "--data-dir", "@"],
}  # fmt: skip
"""Commands that need data, @ for their folder."""

LONG = "n" * 300
HOSTILE = {
    "long": LONG,
    "long within": f"{LONG}/x",
    "no such user": "~nosuchuser/x",
    "newline": "a\nb",
    "escape": "a\x1b[31mb",
    "not UTF-8": os.fsdecode(b"\xfe"),
    "pipe": "pipe",
    "device": "/dev/zero",
    "within a file": "picture.png/x",
    "loop": "loop",
    "link to nothing": "nothing",
    "NUL": "a\0b",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of sound inputs."""
    folder = tmp_path_factory.mktemp("paths")
    draw = DrawConfig(steps=2, units=8, latents=3, read=2, write=2)
    reader = replace(small("glimpse"), classes=10)
    for name, config in (("net", draw), ("reader", reader)):
        run = replace(make_run(), model=config, data=Data("digits"))
        torch.manual_seed(0)
        network = models.build(config, (1, 28, 28))
        checkpoint.save_model(folder / f"{name}.safetensors", network, run, {"examples": 8})
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(folder / "picture.png")
    coded = compression.compress(
        compression.load(folder / "net.safetensors"), np.zeros((1, 1, 28, 28), np.uint8)
    )
    (folder / "net.draw").write_bytes(coded.data)
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    (folder / "nothing").symlink_to("nowhere/at/all")
    (folder / "folder").mkdir()
    (folder / "text").write_text("no picture, no model, no record")
    return folder


@pytest.fixture(autouse=True)
def there(made, monkeypatch):
    """Work there; and nothing waits longer than this."""

    def late(*_):
        raise AssertionError("it waits without end")

    monkeypatch.chdir(made)
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def run(words, monkeypatch):
    """A command of the package, or a tool of the repository."""
    if words[0] in ("record", "results"):
        monkeypatch.setattr(sys, "argv", [f"{words[0]}.py", *words[1:]])
        runpy.run_path(str(TOOLS / f"{words[0]}.py"), run_name="__main__")
    else:
        cli.main(words)


def refused(words, path, monkeypatch, capsys):
    """The line that a command gets with this path in the place of @; it leaves nothing."""
    before = sorted(os.listdir("."))  # noqa: PTH208
    with pytest.raises(SystemExit) as end:
        run([word.replace("@", path) for word in words], monkeypatch)
    said = capsys.readouterr().err
    assert end.value.code == 2, said
    assert said.startswith("drawnet: ") and said.endswith("\n") and said[:-1].isprintable(), said
    assert sorted(os.listdir(".")) == before  # noqa: PTH208
    return said


def slots(kind):
    """The names of a dataclass's fields that hold paths."""
    hints = typing.get_type_hints(kind)
    return {f.name for f in fields(kind) if "Path" in str(hints[f.name])}


def test_every_path_of_every_command_is_in_a_table():
    known = {*READ, *WRITTEN, *FOLDERS, *DATA_DIRS}
    for name in catalogue.commands():
        command = cli.command(name)
        kinds = [
            k
            for k in vars(command).values()
            if is_dataclass(k) and k.__module__ == command.__name__
        ]
        for slot in {slot for kind in kinds for slot in slots(kind)}:
            assert f"{name} {slot}" in known


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("name", READ)
def test_what_cannot_be_read_gets_one_line(name, what, monkeypatch, capsys):
    refused(READ[name], HOSTILE[what], monkeypatch, capsys)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (name, path)
        for name in READ
        for path in ("folder", "text", ".", "", "nowhere")
        if path not in (".", "") or not name.endswith("image")  # a folder of pictures serves
    ],
)
def test_what_is_something_else_gets_one_line(name, path, monkeypatch, capsys):
    refused(READ[name], path, monkeypatch, capsys)


MADE = ("newline", "escape", "not UTF-8", "link to nothing")
"""Of these, what a file can be called."""


@pytest.mark.parametrize("what", [k for k in HOSTILE if k not in MADE])
@pytest.mark.parametrize("name", [*WRITTEN, *FOLDERS])
def test_what_cannot_be_written_gets_one_line_before_any_work(name, what, monkeypatch, capsys):
    def work(*_, **__):
        raise AssertionError("work was done")

    words, suffix = WRITTEN.get(name) or (FOLDERS[name], "")
    if what in ("pipe", "loop") and not os.path.lexists(path := HOSTILE[what] + suffix):
        os.symlink(HOSTILE[what], path)  # noqa: PTH211
    path = HOSTILE[what] + suffix * (what != "device")
    for function in (
        "drawing.sample.sampling", "drawing.sample.redrawing", "drawing.complete.completing",
        "drawing.morph.morphing", "training.loop.train", "evaluation.likelihood.evaluate",
        "evaluation.compare._row",
    ):  # fmt: skip
        monkeypatch.setattr(f"drawnet.{function}", work)
    refused(words, path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("name", "what"),
    [(n, k) for n in DATA_DIRS for k in HOSTILE if n[:5] != "fetch" or k not in MADE],
)
def test_a_folder_of_data_that_is_none_gets_one_line(name, what, monkeypatch, capsys):
    def away(*_):
        raise UserError("nothing reaches the network")

    monkeypatch.setattr("drawnet.data.download._persist", away)
    refused(DATA_DIRS[name], HOSTILE[what], monkeypatch, capsys)


@pytest.mark.parametrize(
    "name", ["a\nb.png", "ü.png", os.fsdecode(b"\xff.png"), "-x.png", "n" * 251 + ".png"]
)
def test_an_odd_name_is_a_name(name, made, capsys, tmp_path):
    target = tmp_path / name
    cli.main(["sample", "net.safetensors", "-n", "1", f"--out={target}"])
    assert target.exists() and len(list(tmp_path.iterdir())) == 1
    cli.main(["reconstruct", "net.safetensors", str(target), f"--out={tmp_path / 'r.png'}"])
    assert (tmp_path / "r.png").exists()


def test_outputs_have_files_of_their_own(monkeypatch, capsys):
    sample = ["sample", "net.safetensors", "-n", "1", "--out", "made.png", "--stages", "@"]
    assert "two outputs" in refused(sample, "folder/../made.png", monkeypatch, capsys)
    again = ["reconstruct", "net.safetensors", "picture.png", "--out", "@"]
    assert "is read" in refused(again, "picture.png", monkeypatch, capsys)
    record = ["record", "net.safetensors", "--out", "made.json", "--weights", "@"]
    assert "is read" in refused(record, "net.safetensors", monkeypatch, capsys)
    assert "two outputs" in refused(record, "made.safetensors", monkeypatch, capsys)


def test_a_home_is_found_or_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/x") == tmp_path / "x" and expand("x/~y") == Path("x/~y")
    for home in ("", "relative"):
        monkeypatch.setenv("HOME", home)
        with pytest.raises(UserError, match="HOME is"):
            expand("~/x")
    with pytest.raises(UserError, match="no such home"):
        expand("~nosuchuser")


def test_messages_stay_in_a_line():
    assert one_line("a\nb\x1b\udcffü") == "a\\nb\\x1b\\udcffü"


def test_a_folder_that_may_not_be_written_is_refused_before_work(monkeypatch, tmp_path):
    real = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda p, mode: Path(p) != tmp_path and real(p, mode))
    for check, path in ((check_target, tmp_path / "x"), (check_folder, tmp_path / "x" / "y")):
        with pytest.raises(UserError, match="Permission denied"):
            check(path)
    check_targets(None, None)


def test_tables_hold_any_name(made, monkeypatch, tmp_path):
    name = "ü\n"
    os.symlink("net.safetensors", name)  # noqa: PTH211
    figures = {column: compare.Figure(1.0, "1") for column in compare.columns(compare.Plan())}
    monkeypatch.setattr(compare.Bounds, "measure", lambda *_: figures)
    monkeypatch.setattr(compare, "_of_samples", lambda *_: {})
    for suffix in (".json", ".md"):
        cli.main(["compare", name, f"--out={tmp_path}/c{suffix}"])
    assert json.loads((tmp_path / "c.json").read_text())["rows"][0]["run"] == "ü\\n"
    assert "| ü\\n |" in (tmp_path / "c.md").read_text(encoding="utf-8")
