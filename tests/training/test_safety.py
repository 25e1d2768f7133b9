"""Nothing is lost: what may be overwritten, what a checkpoint must be, and what does not stop a run."""

import json
import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from conftest import make_run
from drawnet.errors import UserError, check_target, write_text
from drawnet.training import checkpoint, loop
from drawnet.training.state import MOMENTS, Session, previous


def saved(folder):
    return folder / "training.safetensors"


@pytest.fixture
def part(tiny_run, tiny_data, tmp_path):
    """A run of which 80 of 160 examples are done."""
    run = replace(tiny_run, decay="none", examples=80)
    loop.train(run, tiny_data, tmp_path / "run")
    return tmp_path / "run"


def go_on(folder, data, **changes):
    run = replace(make_run(), decay="none", examples=160, **changes)
    return loop.train(run, data, folder, resume=True)


# ---- targets ------------------------------------------------------------------------------------


def test_only_files_are_written_over(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "loop").symlink_to("loop")
    for target in ("", ".", "..", tmp_path, tmp_path / "pipe", "/dev/null", tmp_path / "loop"):
        path = type(tmp_path)(target)
        for write in (check_target, lambda p: write_text(p, "text")):
            with pytest.raises(UserError, match=r"name a file|cannot be written"):
                write(path)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "text"


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale = tmp_path / f".file.txt.{dead.pid}.part"
    living = tmp_path / f".file.txt.{os.getppid()}.part"
    other = tmp_path / f".other.txt.{dead.pid}.part"
    for path in (stale, living, other):
        path.write_text("half")
    write_text(tmp_path / "file.txt", "whole")
    assert not stale.exists() and living.exists() and other.exists()


@pytest.mark.parametrize("resume", [False, True])
def test_weights_without_a_checkpoint_are_not_written_over(part, tiny_data, resume):
    saved(part).unlink()
    before = (part / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="holds weights but no checkpoint: choose another --out"):
        loop.train(make_run(), tiny_data, part, resume=resume)
    assert (part / "model.safetensors").read_bytes() == before


# ---- checkpoints --------------------------------------------------------------------------------


def rewrite(path, change, sign=True):
    """Change the tensors of a checkpoint; sign: with a digest that fits."""
    tensors, header = checkpoint.load_tensors(path)
    change(tensors)
    if sign:
        checkpoint.save_tensors(path, tensors, header)
    else:
        whole = json.dumps(header | {"digest": 64 * "0"})
        data = checkpoint.save(tensors, {checkpoint.KEY: whole})
        path.write_bytes(data)


FIRST = "adam.exp_avg.encoder.weight"
DAMAGE = {
    "another shape": lambda t: t.update({FIRST: t[FIRST].flatten()[:3].clone()}),
    "another type": lambda t: t.update({FIRST: t[FIRST].double()}),
    "not finite": lambda t: t[FIRST].fill_(torch.nan),
    "one of a parameter's missing": lambda t: t.pop(FIRST),
    "all missing": lambda t: [t.pop(n) for n in list(t) if n.startswith("adam.")],
    "a step of two numbers": lambda t: t.update({"adam.step.encoder.weight": torch.zeros(2)}),
    "a foreign one": lambda t: t.update({"adam.exp_avg.nothing": torch.zeros(2)}),
    "weights of another shape": lambda t: t.update({"model.c": torch.zeros(3)}),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_checkpoint_is_checked_whole_before_any_of_it_is_used(part, tiny_data, what):
    rewrite(saved(part), DAMAGE[what])
    with pytest.raises(UserError, match=r"does not fit its (run|model)|is damaged"):
        go_on(part, tiny_data)


def test_tensors_that_were_not_written_are_not_read(part, tiny_data):
    rewrite(saved(part), lambda t: t["model.c"].add_(1), sign=False)
    with pytest.raises(UserError, match=r"are not those that were written; .*previous"):
        go_on(part, tiny_data)
    previous(saved(part)).replace(saved(part))
    assert go_on(part, tiny_data).examples_seen == 160


def test_the_checkpoint_before_the_last_is_kept(tiny_run, tiny_data, tmp_path):
    loop.train(tiny_run, tiny_data, tmp_path)
    seen = [
        checkpoint.load_tensors(path)[1]["progress"]["examples_seen"]
        for path in (previous(saved(tmp_path)), saved(tmp_path))
    ]
    assert seen[0] < seen[1] == tiny_run.examples
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".") and p.name != ".lock"]


def test_a_run_that_diverges_keeps_its_sound_checkpoint(tiny_run, tiny_data, tmp_path, capsys):
    run = replace(tiny_run, warmup=0, lr=1e38, save_every=8, evaluate_every=10**6)
    with pytest.raises(UserError, match="not finite"):
        loop.train(run, tiny_data, tmp_path)
    if saved(tmp_path).exists():
        tensors, _ = checkpoint.load_tensors(saved(tmp_path))
        assert all(t.isfinite().all() for t in tensors.values())
    assert "no checkpoint: " in capsys.readouterr().err


@pytest.mark.parametrize("place", ["model", "average", "adam"])
def test_what_is_not_finite_is_not_written(tiny_run, tiny_data, tmp_path, place):
    pixels = torch.from_numpy(tiny_data.splits["train"].pixels)
    session = Session.fresh(tiny_run, pixels, 2)
    loop.train_step(session, pixels, 2)
    assert session.save(tmp_path / "x.safetensors") == ""
    before = (tmp_path / "x.safetensors").read_bytes()
    name, tensor = next((n, t) for n, t in session.state().items() if n.startswith(place))
    tensor.data.fill_(torch.inf)
    assert session.save(tmp_path / "x.safetensors") == name
    assert (tmp_path / "x.safetensors").read_bytes() == before


def test_every_moment_is_known():
    for name, kind in (("adam", torch.optim.Adam), ("adagrad", torch.optim.Adagrad)):
        p = torch.nn.Parameter(torch.ones(2))
        optimizer = kind([p])
        p.sum().backward()
        optimizer.step()
        assert set(optimizer.state[p]) == set(MOMENTS[name])


# ---- what does not stop a run -------------------------------------------------------------------

TRAIN = """
import sys, pathlib
sys.path.insert(0, {tests!r})
import conftest
from drawnet.training import loop
loop.train(conftest.make_run(), conftest.make_data(), pathlib.Path({out!r}))
"""


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
def test_training_does_not_need_a_terminal(tmp_path, stderr):
    from conftest import __file__ as tests

    script = TRAIN.format(tests=os.path.dirname(tests), out=str(tmp_path / "run"))  # noqa: PTH120
    (tmp_path / "train.py").write_text(script)
    done = subprocess.run(f"{sys.executable} {tmp_path / 'train.py'} {stderr}", shell=True)
    assert done.returncode in (0, 120)  # 120: Python could not flush standard error at its end
    _, header = checkpoint.load_tensors(saved(tmp_path / "run"))
    assert header["progress"]["examples_seen"] == make_run().examples


def test_training_does_not_need_its_log(tiny_run, tiny_data, tmp_path, monkeypatch, capsys):
    class Full:
        def write(self, _):
            raise OSError(28, "No space left on device")

        def close(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop, "open_metrics", lambda *_: Full())
    assert loop.train(tiny_run, tiny_data, tmp_path).examples_seen == tiny_run.examples
    assert capsys.readouterr().err.count("metrics are no longer written: No space left") == 1


def test_a_closed_terminal_keeps_a_checkpoint(tiny_run, tiny_data, tmp_path, monkeypatch):
    real, count = loop.train_step, iter(range(1, 100))

    def counted(*arguments):
        if next(count) == 5:
            os.kill(os.getpid(), signal.SIGHUP)
        return real(*arguments)

    monkeypatch.setattr(loop, "train_step", counted)
    assert loop.train(tiny_run, tiny_data, tmp_path).examples_seen == 40
    assert checkpoint.load_tensors(saved(tmp_path))[1]["progress"]["examples_seen"] == 40
