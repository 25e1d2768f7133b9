"""Nothing of POSIX alone stands on the way of train and sample."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ELSEWHERE = """
import asyncio, os, signal, sys  # asyncio itself has what only POSIX needs

for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None  # an import is an ImportError
for name in ("sysconf", "sched_getaffinity", "getuid", "geteuid", "getppid", "mkfifo"):
    delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM", "alarm", "setitimer"):
    delattr(signal, name)
import ctypes, warnings

class Library(ctypes.CDLL):
    def __init__(self, name, *rest, **more):
        if name is None:
            raise TypeError("bad argument type for built-in operation")  # as Windows has it
        super().__init__(name, *rest, **more)

ctypes.CDLL = Library
warnings.filterwarnings("ignore", "only soft file lock")

from drawnet import cli

os.chdir({folder!r})
train = ["train", "digits_quick", "--out", "run", "--batch", "8", "--validation-images", "4"]
train += ["--model.steps", "2", "--model.units", "8"]
for words in (
    [*train, "--examples", "16"],
    [*train, "--examples", "32", "--resume"],
    ["evaluate", "run", "--images", "2"],
    ["sample", "run", "-n", "2", "--out", "s.png", "--stages", "t.png", "--neighbours", "n.png"],
    ["reconstruct", "run", "s.png", "--out", "r.gif"],
):
    try:
        cli.main(words)
    except SystemExit as end:
        assert not end.code, words
"""


def test_train_and_sample_need_nothing_that_windows_lacks(tmp_path):
    code = ELSEWHERE.format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert {"s.png", "t.png", "n.png", "r.gif", "run"} <= {p.name for p in tmp_path.iterdir()}
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("module", ["fcntl", "resource", "pwd", "grp", "termios", "pty", "syslog"])
def test_the_package_imports_nothing_of_posix_alone(module):
    source = Path(__file__).parents[1] / "src"
    for path in source.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(rf"^\s*(import|from) {module}\b", text, re.MULTILINE), path


def test_names_of_a_run_s_files_are_names_on_windows(tiny_run, tiny_data, tmp_path):
    from drawnet.training import loop

    loop.train(tiny_run, tiny_data, tmp_path / "run")
    for path in (tmp_path / "run").rglob("*"):
        assert not set(path.name) & set('<>:"|?*\\') and not path.name.endswith((" ", "."))
