"""What an environment, an option or a stream says is checked: one line, status 2, nothing lost."""

import os
import subprocess
import sys
from dataclasses import fields, replace
from typing import get_type_hints

import pytest
import torch

from conftest import make_run, small
from drawnet import models
from drawnet.errors import UserError
from drawnet.models.draw import Draw, DrawConfig
from drawnet.models.sequential import bound, encode, generate, log_weights
from drawnet.training import config


def drawnet(*words, shell="", **environment):
    command = f"{sys.executable} -m drawnet {' '.join(words)} {shell}"
    inherited = {k: v for k, v in os.environ.items() if k not in ("LC_ALL", "LANG", "COLUMNS")}
    return subprocess.run(
        command, shell=True, capture_output=True, timeout=60, env=inherited | environment
    )


def numbers(kind):
    hints = get_type_hints(kind)
    return [f.name for f in fields(kind) if hints[f.name] is float]


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -float("inf")])
@pytest.mark.parametrize("name", numbers(config.Run))
def test_a_setting_of_a_run_is_a_finite_number(name, value):
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')}"):
        replace(make_run(), **{name: value})


@pytest.mark.parametrize("kind", models.names())
def test_a_setting_of_a_model_is_a_number_with_sense(kind):
    settings = small(kind)
    for field in fields(settings):
        if isinstance(getattr(settings, field.name), bool | str):
            continue
        wrong = [-1]
        if isinstance(getattr(settings, field.name), float):
            wrong += [float("nan"), float("inf")]
        for value in wrong:
            with pytest.raises(UserError, match="--model"):
                replace(settings, **{field.name: value})


def test_a_terminal_without_utf8_shows_what_it_can():
    done = drawnet("list", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0 and b"mnist" in done.stdout and done.stderr == b""


def test_output_that_cannot_be_written_is_no_success():
    done = drawnet("list", shell="> /dev/full")
    assert done.returncode == 2
    line = b"drawnet: standard output could not be written: No space left on device"
    assert done.stderr.strip() == line


@pytest.mark.parametrize("command", ["list", "sample --help"])
def test_closed_streams_are_no_traceback(command):
    done = drawnet(command, shell=">&-")
    line = b"drawnet: standard output could not be written: Bad file descriptor"
    assert done.returncode == 2 and done.stderr.strip() == line
    done = drawnet(command, shell="2>&-")
    assert done.returncode == 0 and done.stdout


def test_a_narrow_terminal_gets_its_help():
    assert drawnet("sample", "--help", COLUMNS="1").returncode == 0


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "abc"}, b"WORLD_SIZE is 'abc'"),
        ({"WORLD_SIZE": "-1"}, b"WORLD_SIZE is '-1'"),
        ({"WORLD_SIZE": "2"}, b"WORLD_SIZE is 2 without RANK: start with torchrun"),
    ],
)
def test_processes_that_were_not_started_are_not_waited_for(tmp_path, environment, said):
    done = drawnet("train digits_quick", "--out", str(tmp_path / "run"), **environment)
    assert done.returncode == 2 and said in done.stderr and b"Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("port", ["65536", "-1"])
def test_a_port_is_a_port(port):
    done = drawnet("demo --no-open --port", port)
    assert done.returncode == 2 and b"--port must be from 0 to 65535" in done.stderr


@pytest.mark.parametrize("host", ["''", "nosuchhost.invalid", "a..b", 80 * "a", "$'\\n'"])
def test_a_host_is_a_host(host):
    done = drawnet("demo mnist --no-open --port 0 --host", host)
    assert (
        done.returncode == 2 and done.stderr.count(b"\n") == 1 and b"Traceback" not in done.stderr
    )


@pytest.mark.parametrize("out", ["/dev/null", ".", "''"])
@pytest.mark.parametrize(
    "command", ["sample mnist -n 1 --stages", "evaluate mnist --images 1 --out"]
)
def test_a_device_or_folder_is_no_target(command, out, tmp_path):
    done = drawnet(command, out)
    assert done.returncode == 2 and b"name a file" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_model_takes_what_it_was_made_for():
    torch.manual_seed(0)
    model = Draw(DrawConfig(steps=4, units=6, latents=3, read=2, write=2), (1, 6, 5))
    x, eps = torch.rand(2, 1, 6, 5).round(), torch.randn(4, 2, 3)
    for function in (bound, encode, log_weights):
        for images, noise, said in (
            (255 * x, eps, r"in \[0, 1\], not from 0 to 255"),
            (x.mT, eps, r"images x are \(2, 1, 5, 6\)"),
            (x, eps[:3], r"noise eps is \(3, 2, 3\), the model takes \(4, B, 3\)"),
            (x, eps[..., :2], "noise eps"),
        ):
            with pytest.raises(ValueError, match=said):
                function(model, images, noise)
    with pytest.raises(ValueError, match="noise eps"):
        next(generate(model, eps[:3]))
