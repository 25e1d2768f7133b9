"""A study spread over a Ray cluster: killed, stopped, with and without one folder for all machines."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch

from drawnet import __version__, cli
from drawnet.ablation import on_ray
from drawnet.errors import UserError, cache_dir
from reference import free_port, position, tensors, until

WORDS = ["ablate", "digits_quick", "--variants", "no_error_image", "--seeds", "1", "--batch", "16"]
WORDS += ["--model.steps", "2", "--model.units", "8", "--validation-images", "20"]
WORDS += ["--precision", "float32"]
UNSEEN = "from drawnet.ablation import on_ray; on_ray.write_text = lambda *_: None\n"
"""No token lies in the study's folder, as if no other machine saw it."""


ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",  # nobody else may give these nodes work
    "RAY_AUTH_TOKEN": uuid.uuid4().hex,
}


@contextmanager
def node(*words):
    """A node of a Ray cluster with one core, on this machine."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *words, "--block"]
    command += ["--num-cpus", "1", "--object-store-memory", str(100 * 2**20)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=pipe, stderr=subprocess.STDOUT, text=True
    ) as process:
        said = []
        while "Ray runtime started" not in "".join(said):
            said.append(process.stdout.readline())
            assert said[-1], "".join(said)
        try:
            yield
        finally:
            process.terminate()
            process.communicate()


@pytest.fixture(scope="module")
def cluster():
    """The address of a Ray cluster of two nodes."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed (extra: ray)")
    port = free_port()
    folder = tempfile.mkdtemp(prefix="ray")  # sockets lie in it, whose paths must be short
    head = ["--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", folder]
    with node(*head), node("--address", f"127.0.0.1:{port}"):
        yield f"127.0.0.1:{port}"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The folder of the study as this machine does it alone."""
    folder = tmp_path_factory.mktemp("here")
    words = [*WORDS, "--images", "16000", "--cores", "1", "--jobs", "2", "--out", str(folder)]
    cli.main(words)
    return folder


def go(cluster, folder, images, *more, first=""):
    words = [*WORDS, "--on", "ray", "--images", str(images), *more, "--out", str(folder)]
    command = [sys.executable, "-c", f"{first}from drawnet import cli; cli.main({words})"]
    environment = ENVIRONMENT | {"RAY_ADDRESS": cluster}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def worker_of(run):
    """The process of Ray whose child trains a run (Linux)."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text()
            status = path.with_name("status").read_text()
        except OSError:
            continue
        if "drawnet.ablation.jobs" in words and str(run) in words:
            return int(status.partition("PPid:")[2].split()[0])
    raise AssertionError(f"nobody trains {run}")


def assert_same_studies(one, two):
    """Bit for bit, but for the time that they took."""
    timed = {"cpu_seconds", "images_per_second", "cpu_minutes"}
    rows = [
        [
            {k: v for k, v in row.items() if k not in timed}
            for row in json.loads((folder / "table.json").read_text())["rows"]
        ]
        for folder in (one, two)
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 2
    for name in ("baseline-seed0", "no_error_image-seed0"):
        a, b = (tensors(folder / name)[0] for folder in (one, two))
        assert all(torch.equal(a[key], b[key]) for key in a | b), name


@pytest.mark.slow
def test_a_killed_worker_is_made_good_and_the_table_is_that_of_one_machine(cluster, here, tmp_path):
    run = tmp_path / "ray" / "baseline-seed0"
    with go(cluster, tmp_path / "ray", 16000) as process:
        until(lambda: position(run) > 0)
        os.kill(worker_of(run), signal.SIGKILL)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0 and not err, err
    assert out.count("baseline-seed0: ") == 1 and "[2/2] " in out
    log = (run / "valid.log").read_text()
    assert "stopped by SIGTERM" in log and "of 16000 examples" in log, "it was not killed in time"
    assert_same_studies(tmp_path / "ray", here)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["", UNSEEN], ids=["one folder", "a folder each"])
def test_stopped_by_ctrl_c_it_goes_on_where_it_was(cluster, here, tmp_path, first):
    folder = tmp_path / "study"
    runs = [folder / f"{name}-seed0" for name in ("baseline", "no_error_image")]
    scratch = cache_dir() / "studies"
    before = set(scratch.glob("*"))

    def place():
        """Where the baseline is trained."""
        found = set(scratch.glob("baseline-seed0-*")) - before
        return found.pop() if found else runs[0]

    with go(cluster, folder, 16000, first=first) as process:
        until(lambda: position(place()) > 0)
        assert (place() == runs[0]) == (not first)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 130 and not err, err
    assert "stopped by SIGINT" in out
    reached = position(runs[0])
    assert 0 < reached < 16000 and not (runs[0] / "valid.json").exists()
    assert place() == runs[0], "the worker's folder has not come home"
    with go(cluster, folder, 16000, first=first) as process:
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0 and not err, err
    log = (runs[0] / "valid.log").read_text()
    assert log.count("stopped by SIGTERM") == 1 and f"at {reached} of" in log
    assert_same_studies(folder, here)


@pytest.mark.slow
def test_more_cores_than_any_machine_has_are_refused_in_a_line(cluster, tmp_path):
    with go(cluster, tmp_path, 32, "--cores", "3") as process:
        _, err = process.communicate(timeout=100)
    assert process.returncode == 2 and err.count("\n") == 1
    assert "no machine of the Ray cluster has 3 cores, but 1 at most" in err


# ---- without a cluster --------------------------------------------------------------------------


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'drawnet\[ray\]'"):
        on_ray.connect(1)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "[::1]:{}", "127.0.0.1:99999"]
)
def test_without_a_cluster_a_line_says_how_to_start_one(monkeypatch, address):
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setenv("RAY_ADDRESS", address.format(free_port()))
    with pytest.raises(UserError, match=r"no Ray cluster .* RAY_ADDRESS=.*: 'ray start --head'"):
        on_ray.connect(1)


def test_an_accelerator_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([*WORDS, "--on", "ray", "--images", "32", "--device", "cuda"])
    assert end.value.code == 2 and "leave --device cuda out" in capsys.readouterr().err


def test_another_version_is_refused(tmp_path):
    home = on_ray.Home("head", tmp_path, tmp_path, "token", version="0.0")
    files, why = on_ray.perform("", 1, home, {})
    assert not files and why.endswith(f" has drawnet {__version__}, and head 0.0")


def test_a_machine_that_sees_the_folder_reads_its_token(tmp_path):
    home = on_ray.Home("head", tmp_path, tmp_path, "token")
    assert not home.reachable()
    (tmp_path / ".token").write_text("of an earlier study")
    assert not home.reachable()
    (tmp_path / ".token").write_text("token")
    assert home.reachable()
