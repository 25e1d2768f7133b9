"""What a device computes is what the CPU computes; the device is chosen, and wrong ones are named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

import everywhere
from drawnet import cli, kernels, models
from drawnet.cli import catalogue
from drawnet.data import GeneratedImages, pipeline
from drawnet.errors import UserError
from drawnet.training import checkpoint, device, distributed, loop
from drawnet.training.state import Session

TESTS = Path(__file__).parent


def python(*words):
    """Run Python in a process of its own: torch does not forget a device like `far`."""
    path = os.pathsep.join([str(TESTS), *sys.path])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


RUN = """import sys, far, torch
from drawnet import cli
torch.set_num_threads(1)
cli.main(sys.argv[1:])
"""
"""The command line where there is an accelerator."""


def test_all_that_is_done_with_models_is_the_same_on_an_accelerator(tmp_path):
    here, there = tmp_path / "cpu", tmp_path / "far"
    there.mkdir()
    shown = everywhere.main(here, "cpu")
    python(TESTS / "everywhere.py", there)
    ours, theirs = (load_file(folder / "found.safetensors") for folder in (here, there))
    assert ours.keys() == theirs.keys() and len(ours) > 100
    for name, values in ours.items():
        torch.testing.assert_close(theirs[name], values, rtol=1e-4, atol=1e-5, msg=name)
    assert json.loads((there / "shown.json").read_text()) == json.loads(json.dumps(shown))
    for folder, name in ((here, "cpu"), (there, "far")):
        for kind in models.names():
            made = checkpoint.load_tensors(folder / kind / "model.safetensors")[1]["made"]
            assert made["device"] == name


TRAIN = "train digits_quick --model.steps 2 --model.units 8 --model.latents 3 --batch 8 --seed 3"
TRAIN += " --decay none --validation-images 9 --evaluate-every 32 --save-every 32"


def test_a_run_goes_on_on_another_device(tmp_path, monkeypatch):
    """From the CPU to an accelerator and back, with operands rounded as where it began."""
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    asked = [*TRAIN.split(), "--device", "cpu", "--precision"]
    cli.main([*asked, "bfloat16", "--examples", "96", "--out", str(whole), "--kernels", "off"])
    monkeypatch.setattr(kernels, "precision", lambda *_: "bfloat16")  # what auto chooses here
    cli.main([*asked, "auto", "--examples", "32", "--out", str(moved), "--kernels", "off"])
    monkeypatch.undo()
    again = [*TRAIN.split(), "--precision", "auto", "--resume", "--out", str(moved)]
    python("-c", RUN, *again, "--examples", "64")
    cli.main([*again, "--examples", "96", "--device", "cpu", "--kernels", "off"])
    one, two = (checkpoint.load_tensors(k / "training.safetensors") for k in (whole, moved))
    assert one[1]["run"] == two[1]["run"]
    for name, values in one[0].items():
        torch.testing.assert_close(two[0][name], values, rtol=1e-4, atol=1e-5, msg=name)


# ---- which device -------------------------------------------------------------------------------

WORDS = {
    "ablate": "digits_quick --images 10 --seeds 1",
    "classify": "cluttered_4",
    "compare": "mnist",
    "complete": "mnist",
    "demo": "mnist --no-open --port 0",
    "encode": "mnist",
    "evaluate": "mnist",
    "morph": "mnist",
    "reconstruct": "mnist",
    "sample": "mnist -n 1",
    "train": "digits_quick",
}
"""The commands that run a model on a device."""


def test_the_other_commands_run_no_model_or_must_on_the_cpu():
    cpu = {"compress", "decompress", "export"}  # the same bits everywhere; a comparison
    assert set(catalogue.commands()) == WORDS.keys() | {"fetch", "list"} | cpu


@pytest.mark.parametrize("name", ["cuda:99", "toaster", "meta", "cpu:1", ""])
@pytest.mark.parametrize("command", WORDS)
def test_a_device_that_is_not_there_is_refused(command, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main([command, *WORDS[command].split(), "--device", name])
    said = capsys.readouterr().err
    there = ", ".join(map(str, device.available()))
    assert said == f"drawnet: no device {name!r} is here; there are: {there}\n"
    assert end.value.code == 2 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", WORDS)
def test_every_command_tells_of_devices(command, capsys):
    words = WORDS[command].split()[:1] if command in ("train", "ablate") else []
    with pytest.raises(SystemExit):
        cli.main([command, *words, "--help"])
    out = capsys.readouterr().out
    assert "--device STR" in out and "auto" in out


@pytest.fixture
def two_cuda(monkeypatch):
    """A machine with two cuda devices, as far as torch is asked."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))


def test_names_of_devices(two_cuda):
    expected = {"auto": "cuda:0", "cuda": "cuda:0", "cuda:1": "cuda:1", "cpu": "cpu"}
    assert {name: str(device.choose(name)) for name in expected} == expected
    assert device.choose(torch.device("cuda", 1)) == torch.device("cuda", 1)
    for name in ("cuda:2", "mps", "nonsense"):
        with pytest.raises(UserError, match="there are: cpu, cuda:0, cuda:1"):
            device.choose(name)


def test_auto_is_the_cpu_where_there_is_nothing_else(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert device.choose("auto") == torch.device("cpu")


PROCESS = {"WORLD_SIZE": "3", "RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


def test_each_process_takes_its_own_device(two_cuda, monkeypatch):
    assert distributed.own_device("cuda:1") == torch.device("cuda", 1)  # one process
    for name, value in (PROCESS | {"LOCAL_RANK": "1"}).items():
        monkeypatch.setenv(name, value)
    assert (
        distributed.own_device("auto") == distributed.own_device("cuda") == torch.device("cuda:1")
    )
    assert distributed.own_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="--device cuda is one each"):
        distributed.own_device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="process 2 has no device of its own: start at most 2 here"):
        distributed.own_device("auto")
    monkeypatch.delenv("LOCAL_RANK")
    with pytest.raises(UserError, match="no LOCAL_RANK to choose a device by: start with torchrun"):
        distributed.own_device("auto")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    with pytest.raises(UserError, match="on cuda or the CPU, not on mps"):
        distributed.own_device("auto")


@pytest.mark.parametrize(("name", "backend"), [("cpu", "gloo"), ("cuda:1", "cpu:gloo,cuda:nccl")])
def test_processes_speak_as_their_devices_do(name, backend, monkeypatch):
    called = []
    for key, value in (PROCESS | {"LOCAL_RANK": "1"}).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(dist, "init_process_group", lambda *a, **k: called.append((*a, k)))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: called.append("left"))
    monkeypatch.setattr(torch.cuda, "set_device", called.append)
    where = torch.device(name)
    with distributed.group(where):
        assert called[-1] == (backend, {"device_id": where} if where.type == "cuda" else {})
    assert called[-1] == "left" and (where.type == "cpu" or called[0] == where)


# ---- data and optimisers ------------------------------------------------------------------------

META = torch.device("meta")


def test_images_lie_where_they_fit(monkeypatch):
    images = everywhere.DATA.splits["train"].pixels
    assert pipeline.resident(images, META).device == META
    assert pipeline.resident(images, device.CPU).data_ptr() == images.ctypes.data  # no copy
    monkeypatch.setattr(pipeline, "RESIDENT", images.nbytes - 1)
    moved = pipeline.resident(images, META)
    assert moved.device == device.CPU
    assert pipeline.take(moved, torch.tensor([3, 1]), META).device == META
    made = GeneratedImages((2, 1, 8, 8), lambda n: images[n], images, "these")
    assert pipeline.resident(made, META) is made
    assert pipeline.take(made, torch.tensor([1]), META).shape == (1, 1, 8, 8)


def test_moments_lie_with_their_parameters(tmp_path, tiny_run):
    pixels = torch.from_numpy(everywhere.DATA.splits["train"].pixels)
    session = Session.fresh(tiny_run, pixels, 2)
    loop.train_step(session, pixels, 2)
    session.save(tmp_path / "training.safetensors")
    other = Session.fresh(tiny_run, pixels, 2, device=META)
    with pytest.warns(UserWarning, match="no-op"):  # there are no numbers on meta
        other.load(tmp_path / "training.safetensors")
    for p in other.model.parameters():
        kept = {name: t.device.type for name, t in other.optimizer.state[p].items()}
        assert kept == {"step": "cpu", "exp_avg": "meta", "exp_avg_sq": "meta"}


def test_kernels_decide_the_number_type_of_the_cpu_alone(monkeypatch):
    monkeypatch.setattr(kernels, "serves", lambda dtype: True)
    monkeypatch.setattr(kernels, "fastest", lambda: (torch.bfloat16, "as this test has it"))
    assert kernels.precision("auto") == "bfloat16"
    assert kernels.precision("auto", device="cuda") == "float32"
    assert kernels.operand_dtype("bfloat16", device="cuda") is torch.bfloat16
