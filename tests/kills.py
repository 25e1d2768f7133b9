"""Kill trainings by SIGKILL at random moments: nothing is lost, and the end is that of a run left alone.

`python tests/kills.py 200 [MODEL…]` kills as often, over several models, a quarter of the times within
the writing of a checkpoint.
"""

import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import make_data, make_run, small
from drawnet import errors
from drawnet.training import checkpoint, loop
from reference import assert_same_runs, tensors

KINDS = ["draw", "conv_draw", "vae", "darn", "gan", "gsn", "glimpse", "stem_draw"]
STAGES = ["before", "cut", "whole", "renamed"]
"""Moments of a writing: nothing is written, a part, all beside the place, all in its place."""
FILES = {".lock", "metrics.jsonl", "model.safetensors", "samples", "training.safetensors"}
FILES |= {"training.previous.safetensors"}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(stage, count, part):
    """Replace the writing of checkpoints by one that is killed at the count-th, at a stage."""
    real, left = errors._write, iter(range(count, -1, -1))

    def write_and_die(writers):
        ((path, write), *_) = writers.items()
        if path.name != "training.safetensors" or next(left) > 1:
            return real(writers)

        def killed(scratch):
            write(scratch)
            if stage == "cut":
                os.truncate(scratch, int(part * scratch.stat().st_size))
            if stage != "renamed":
                die()

        if stage == "before":
            die()
        real({path: killed})
        die()

    errors._write = write_and_die


def run_of(kind):
    classes = {"classes": 3} if kind == "glimpse" else {}
    run = replace(make_run(), examples=2**40, decay="none", save_every=16, evaluate_every=64)
    return run if kind == "draw" else replace(run, model=small(kind, **classes))


def work(kind, folder, moment):
    """What the killed process does."""
    torch.set_num_threads(1)
    if moment:
        deadly(*moment)
    loop.train(run_of(kind), make_data(), folder, resume=True)


def kill(kind, folder, chance, writing):
    """Let a process go on with the run, and kill it; return its exit status."""
    moment = (chance.choice(STAGES), chance.randint(1, 4), chance.random()) if writing else None
    process = CONTEXT.Process(target=work, args=(kind, folder, moment))
    saved = folder / "training.safetensors"
    before = saved.stat().st_mtime_ns if saved.exists() else 0
    process.start()
    if not writing:
        deadline = time.monotonic() + 60
        while not (saved.exists() and saved.stat().st_mtime_ns > before):
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
    process.join(120)
    return process.exitcode


def position(folder):
    """Load all that a kill has left, and return the examples seen."""
    if (folder / "model.safetensors").exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not yet validated
            checkpoint.load_model(folder)
    if not (folder / "training.safetensors").exists():
        return 0
    return tensors(folder)[1]["progress"]["examples_seen"]


def train_to(end, kind, folder):
    """Go on with the run, and stop it by SIGTERM at a position."""
    run, real = run_of(kind), loop.train_step

    def step(session, *rest):
        if session.progress.examples_seen + run.batch >= end:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(session, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_step", step)
        assert loop.train(run, make_data(), folder, resume=True).examples_seen == end


def check(kind, folder, kills, chance):
    """Kill a run so many times; return how many were within a writing, and the last position."""
    reached, writings = 0, [k % 4 == 0 for k in range(kills)]
    for writing in writings:
        assert kill(kind, folder / "killed", chance, writing) == -signal.SIGKILL
        seen = position(folder / "killed")
        assert seen >= reached, f"{kind}: {seen} after {reached}"
        reached = seen
    for name in ("killed", "whole"):
        train_to(reached + 480, kind, folder / name)
        assert {path.name for path in (folder / name).iterdir()} <= FILES, "leftovers"
    assert_same_runs(folder / "whole", folder / "killed")
    whole, killed = (
        {p.name: p.read_bytes() for p in (folder / name / "samples").glob("*")}
        for name in ("whole", "killed")
    )
    assert whole == killed
    return sum(writings), reached


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["drawnet.training.loop", "conftest", "reference"])


def main(kills, *kinds):
    torch.set_num_threads(1)
    for kind in kinds or KINDS:
        each = kills // len(kinds or KINDS)
        with tempfile.TemporaryDirectory() as folder:
            writings, reached = check(kind, Path(folder), each, random.Random(kind))
        print(f"{kind}: {each} kills, {writings} of them within a writing, {reached:,} examples")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
