"""Several machines: here two, each with its own torchrun, on the loopback interface."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from drawnet import cli, kernels
from drawnet.errors import UserError
from drawnet.training import checkpoint, distributed, loop, run_dir
from drawnet.training.console import say
from reference import free_port, position, tensors, until

SCRIPT = Path(__file__).parents[2] / "examples" / "slurm.sh"
WORDS = ["train", "digits_quick", "--model.steps", "2", "--model.units", "8", "--batch", "16"]
WORDS += ["--validation-images", "20", "--precision", "float32", "--save-every", "160"]


@contextmanager
def nodes(*commands):
    """A torchrun for each of the commands' words, as if each were on a machine of its own."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(len(commands))]
    launch += ["--nproc-per-node", "1", "--rdzv-backend", "c10d", "--local-addr", "127.0.0.1"]
    launch += ["--rdzv-endpoint", f"127.0.0.1:{free_port()}", "-m", "drawnet"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                subprocess.Popen(
                    [*launch, *map(str, words)],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for words in commands
        ]


def outputs(both):
    """(status, standard output, what drawnet says) of both nodes, when they have ended."""
    texts = [node.communicate(timeout=100) for node in both]
    return [
        (node.returncode, out, [line for line in err.split("\n") if line.startswith("drawnet: ")])
        for node, (out, err) in zip(both, texts, strict=True)
    ]


def children(process):
    """Processes that a process has started (Linux)."""
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(word) for word in text.split()]


def assert_close(one, two):
    one, two = tensors(one)[0], tensors(two)[0]
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.slow
def test_two_machines_equal_one_and_one_of_them_speaks(tmp_path, capsys):
    words = [*WORDS, "--examples", "480", "--out"]
    with nodes(*2 * [[*words, tmp_path / "two"]]) as both:
        ended = outputs(both)
    assert [status for status, _, _ in ended] == [0, 0], ended
    assert sorted(out.count("480 examples") for _, out, _ in ended) == [0, 1], ended
    assert sorted(len(out) > 0 for _, out, _ in ended) == [False, True]
    cli.main([*words, str(tmp_path / "one")])
    assert_close(tmp_path / "one", tmp_path / "two")
    files = [sorted(p.name for p in (tmp_path / name).rglob("*")) for name in ("one", "two")]
    assert files[0] == files[1]


@pytest.mark.slow
def test_a_machine_that_dies_ends_the_other_in_a_line_and_the_run_goes_on(tmp_path):
    words, run = [*WORDS, "--decay", "none", "--resume", "--examples", 10**6], tmp_path / "run"
    with nodes(*2 * [[*words, "--out", run]]) as both:
        until(lambda: position(run) >= 320)
        (worker,) = children(both[1].pid)
        both[1].kill()
        os.kill(worker, signal.SIGKILL)
        (status, _, said), _ = outputs(both)
    assert status and len(said) == 1 and "lost another one" in said[0], said
    # The checkpoint is whole: two machines go on from it, and then one does.
    for machines in (2, 1):
        first = position(run)
        with nodes(*machines * [[*words, "--out", run]]) as going:
            until(lambda first=first: position(run) > first)
            going[0].send_signal(signal.SIGTERM)
            assert all(status for status, _, _ in outputs(going))
        assert position(run) > first
    whole = [*WORDS, "--decay", "none", "--examples", position(run), "--out", tmp_path / "whole"]
    cli.main([*map(str, whole)])
    assert_close(run, tmp_path / "whole")


@pytest.mark.slow
def test_stopping_one_machine_stops_both_at_one_checkpoint(tmp_path):
    words = [*WORDS, "--examples", 10**6, "--save-every", 10**6, "--out", tmp_path / "run"]
    with nodes(*2 * [words]) as both:
        until(lambda: (tmp_path / "run" / "metrics.jsonl").exists())
        until(lambda: (tmp_path / "run" / "metrics.jsonl").stat().st_size)
        both[1].send_signal(signal.SIGTERM)
        ended = outputs(both)
    assert all(status for status, _, _ in ended), ended
    assert position(tmp_path / "run") >= 800


SRUN = """#!/bin/bash
# As Slurm's: the command on both machines; a signal reaches every process of both.
signal() {
  for node in $nodes; do
    kill -TERM $(cat "/proc/$node/task/$node/children") "$node"
  done
}
trap signal TERM
for SLURM_NODEID in 0 1; do
  export SLURM_NODEID
  "$@" &
  nodes="${nodes:-} $!"
done
status=0
for node in $nodes; do
  while kill -0 "$node" 2>/dev/null; do wait "$node" || status=$?; done
done
exit $status
"""


def slurm(folder, *words):
    """The Slurm script where `srun` starts two machines on this one."""
    bin = folder / "bin"
    bin.mkdir(exist_ok=True)
    (bin / "srun").write_text(SRUN)
    (bin / "srun").chmod(0o755)
    (bin / "torchrun").write_text(
        f'#!/bin/bash\nexec {sys.executable} -m torch.distributed.run "$@"\n'
    )
    (bin / "torchrun").chmod(0o755)
    environment = os.environ | {
        "PATH": f"{bin}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(free_port()),
        "SLURM_NNODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "MASTER_ADDR": "127.0.0.1",
    }
    pipe = subprocess.PIPE
    command = ["bash", SCRIPT, *map(str, words)]
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_the_slurm_script_is_a_script():
    subprocess.run(["bash", "-n", SCRIPT], check=True)


@pytest.mark.slow
def test_the_slurm_script_trains_stops_and_goes_on(tmp_path):
    words = [*WORDS[1:], "--save-every", 10**6, "--examples", 10**6, "--out", tmp_path / "run"]
    log, size, reached = tmp_path / "run" / "metrics.jsonl", 0, 0
    for _ in range(2):
        with slurm(tmp_path, *words) as job:
            until(lambda size=size: log.exists() and log.stat().st_size > size)
            (srun,) = children(job.pid)
            os.kill(srun, signal.SIGTERM)
            _, err = job.communicate(timeout=100)
        assert job.returncode and position(tmp_path / "run") > reached, err
        assert err.count("--resume goes on from here") == 1, err
        size, reached = log.stat().st_size, position(tmp_path / "run")


def test_a_signal_that_comes_twice_at_once_is_one_request():
    with run_dir.interruptible() as stopped:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped == ["SIGTERM"]
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            now = time.monotonic()
            patch.setattr(run_dir.time, "monotonic", lambda: now + 2)
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "said"),
    [
        (["--lr", "0.5"], "lr is 0.5 there and"),
        (["--data.name", "nowhere"], "nowhere"),
    ],
)
def test_machines_that_differ_are_refused_in_a_line(tmp_path, other, said):
    words = [*WORDS, "--examples", "160", "--out", tmp_path / "run"]
    with nodes(words, [*words, *other]) as both:
        ended = outputs(both)
    assert all(status for status, _, _ in ended), ended
    lines = [line for _, _, said in ended for line in said]
    assert any(said in line for line in lines) and len(lines) <= 2, ended
    assert not (tmp_path / "run" / "training.safetensors").exists()


def test_processes_that_stand_elsewhere_are_refused(tiny_run, tiny_data, tmp_path, monkeypatch):
    """As where each machine has a run folder of its own: process 1 sees no checkpoint."""
    run = replace(tiny_run, decay="none", examples=48)
    loop.train(run, tiny_data, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    behind = {"examples_seen": 0}
    monkeypatch.setattr(
        distributed,
        "gather",
        lambda here: [here, here | behind if isinstance(here, dict) else here],
    )
    with pytest.raises(
        UserError, match=r"process 1 .* examples_seen is 0 there and 48 here; .* see"
    ):
        loop.train(replace(run, examples=96), tiny_data, tmp_path, resume=True)
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_the_number_type_is_that_of_the_first_machine(tiny_run, tiny_data, tmp_path, monkeypatch):
    measured = {"float32": "bfloat16", "bfloat16": "float32"}[kernels.precision("auto")]

    def gather(here):
        return [measured if isinstance(here, str) else here]

    monkeypatch.setattr(distributed, "gather", gather)
    loop.train(replace(tiny_run, precision="auto", examples=48), tiny_data, tmp_path)
    assert checkpoint.load_model(tmp_path).run.precision == measured


def test_of_several_processes_one_speaks_before_they_have_joined(monkeypatch, capsys):
    for rank in (0, 1):
        sound = {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "a", "MASTER_PORT": "1"}
        for name, value in sound.items():
            monkeypatch.setenv(name, value)
        say("a line")
        assert capsys.readouterr().err.count("a line") == 1 - rank
