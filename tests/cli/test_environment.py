"""What an environment says: every command works in it, or says in one line why not."""

import os
import subprocess
import sys

import pytest

from drawnet.errors import UserError, cache_dir, threads
from drawnet.training import distributed

COMMANDS = """
import os, sys
arguments = lambda words: [os.fsdecode(word.encode()) for word in words]
sys.path.insert(0, {tools!r})
from drawnet import cli

def run(*words):
    status = 0
    try:
        cli.main(arguments(words))
    except SystemExit as end:
        status = end.code or 0
    assert status == 0, (words, status)

os.chdir({folder!r})
quick = ["--model.steps", "2", "--model.units", "8", "--batch", "8", "--validation-images", "4"]
run("list")
run("train", "digits_quick", *quick, "--examples", "16", "--out", "läuft")
run("evaluate", "läuft", "--images", "2", "--out", "é.json")
run("sample", "läuft", "-n", "2", "--out", "zwölf.png", "--stages", "s.png", "--neighbours", "n.png")
run("reconstruct", "läuft", "zwölf.png", "--out", "ø.gif")
run("ablate", "digits_quick", *quick, "--images", "8", "--variants", "baseline", "--seeds", "1",
    "--out", "études")
run("ablate")
import record, results
cli.guarded(record.main, arguments(["läuft", "é.json", "--out", "ß.json"]))
cli.guarded(results.main, arguments(["ß.json", "--out", "r.md"]))
"""


def drawnet(*words, code=None, **environment):
    command = [sys.executable, *(["-c", code] if code else ["-m", "drawnet", *words])]
    inherited = {k: v for k, v in os.environ.items() if k not in ("LC_ALL", "LANG", "COLUMNS")}
    whole = {k: v for k, v in (inherited | environment).items() if v is not None}
    return subprocess.run(command, capture_output=True, timeout=100, env=whole)


def test_every_command_works_without_utf8(tmp_path):
    tools = os.path.join(os.path.dirname(__file__), "..", "..", "tools")  # noqa: PTH118, PTH120
    code = COMMANDS.format(tools=tools, folder=str(tmp_path))
    script = tmp_path / "script.py"
    script.write_text(code, encoding="utf-8")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = drawnet(code=f"exec(open({str(script)!r}, encoding='utf-8').read())", **plain)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr.decode(
        errors="replace"
    )
    assert (tmp_path / os.fsdecode("études".encode()) / "table.md").exists()


def refused(**environment):
    done = drawnet("sample", "mnist", "-n", "1", "--out", "x.nonsense", **environment)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1, done.stderr
    return done.stderr.decode()


@pytest.mark.parametrize("value", ["abc", "-3", "0", "1.5", 30 * "9", "²"])
def test_threads_are_a_number(value):
    assert f"OMP_NUM_THREADS is {value!r}" in refused(OMP_NUM_THREADS=value, PYTHONUTF8="1")


def test_threads_may_be_many(monkeypatch):
    for value, found in (("", None), ("3", 3), ("4,2", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert threads() == found


def test_a_variable_that_nobody_reads_is_named():
    assert "did you mean 'DRAWNET_DATA'?" in refused(DRAWNET_DAT="x")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RANK", "abc", "RANK is 'abc', not 0 to 1"),
        ("RANK", "2", "RANK is '2', not 0 to 1"),
        ("MASTER_PORT", "99999", "MASTER_PORT is '99999'"),
        ("MASTER_ADDR", "host.invalid\n", "did not find each other"),
    ],
)
def test_processes_that_cannot_meet_do_not_wait(monkeypatch, name, value, said):
    sound = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29577"}
    for variable, setting in (sound | {name: value}).items():
        monkeypatch.setenv(variable, setting)

    def fail(_):
        raise RuntimeError("no such host\nC++ stack")

    monkeypatch.setattr(distributed.dist, "init_process_group", fail)
    with pytest.raises(UserError, match=said), distributed.group():
        pass


def test_a_relative_cache_folder_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_dir() == tmp_path / ".cache" / "drawnet"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert str(cache_dir()) == "/x/drawnet"


@pytest.mark.parametrize(
    "environment",
    [
        {"XDG_CACHE_HOME": "/dev/null"},
        {"XDG_CACHE_HOME": None, "HOME": ""},
        {"DRAWNET_KERNELS": "abc"},
        {"CC": "/nowhere", "XDG_CACHE_HOME": "@"},
        {"CC": "latin", "XDG_CACHE_HOME": "@"},
    ],
)
def test_kernels_that_cannot_be_kept_cost_a_line(environment, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_bytes(b"#!/bin/sh\nprintf 'error: \\351\\377\\n' >&2\nexit 1\n")
    compiler.chmod(0o755)
    words = {"@": str(tmp_path / "cache"), "latin": str(compiler)}
    environment = {k: words.get(v, v) for k, v in environment.items()} | {"TMPDIR": "/nowhere"}
    out = tmp_path / "made.png"
    done = drawnet("sample", "mnist", "-n", "1", "--out", str(out), **environment)
    assert done.returncode == 0 and out.exists()
    assert done.stderr.count(b"\n") == 1 and b"kernels are off, formulas serve" in done.stderr
    assert not list(tmp_path.glob("cache/drawnet/*"))


@pytest.mark.parametrize(
    "environment",
    [
        {"TERM": ""},
        {"TERM": "x", "NO_COLOR": "1", "FORCE_COLOR": "1"},
        {"COLUMNS": "-5"},
        {"LINES": "x"},
    ],
)
def test_a_terminal_may_be_anything(environment):
    done = drawnet("sample", "--help", **environment)
    assert done.returncode == 0 and b"--temperature" in done.stdout and not done.stderr
