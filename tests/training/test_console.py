"""What a training says: a bar on a terminal, a widget in a notebook, lines in a log."""

import re
import sys
import types
from dataclasses import replace

import pytest

from drawnet.training import console, loop


class Terminal:
    """Standard error of a terminal, which remembers."""

    encoding = "utf-8"
    closed = False

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True

    def fileno(self):
        raise OSError


@pytest.fixture
def clock(monkeypatch):
    """A clock that every reading moves on by a second."""
    now = iter(range(10**6))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(now)))


def said(capsys):
    out, err = capsys.readouterr()
    assert out == "" and "\r" not in err
    return err.splitlines()


def test_a_log_has_a_line_every_half_minute(clock, capsys):
    with console.progress("mnist", 20_000, 2_000) as bar:
        for _ in range(90):  # a second each
            bar.set_postfix({"nats": "101.5"})
            bar.update(100)
    assert said(capsys) == [
        "mnist: begins at 2,000 of 20,000 examples",
        "mnist: 5,000 of 20,000 examples (25%), 100/s, 02:30 left, nats 101.5",
        "mnist: 8,000 of 20,000 examples (40%), 100/s, 02:00 left, nats 101.5",
        "mnist: 11,000 of 20,000 examples (55%), 100/s, 01:30 left, nats 101.5",
    ]


def test_a_log_says_what_matters(tiny_run, tiny_data, tmp_path, capsys):
    loop.train(tiny_run, tiny_data, tmp_path)
    first, *evaluated, last = said(capsys)
    assert first == "tiny: begins at 0 of 160 examples"
    assert len(evaluated) == 4  # after 48, 96, 144 and 160
    best = re.compile(
        r"tiny: \d+ examples: valid_nats [\d.]+(, the best so far|; the best is [\d.]+)"
    )
    assert all(best.fullmatch(line) for line in evaluated)
    assert last == "tiny: 160 examples: ends after 0.0 minutes of training"


def test_a_terminal_has_a_bar_and_no_lines(tiny_run, tiny_data, tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    loop.train(replace(tiny_run, examples=48), tiny_data, tmp_path)
    assert "100%" in terminal.text and "48/48" in terminal.text
    assert "begins" not in terminal.text and "valid_nats" not in terminal.text


def test_a_notebook_has_the_widget_and_no_lines(tiny_run, tiny_data, tmp_path, monkeypatch, capsys):
    from tqdm import auto

    made = []

    class Widget(auto.tqdm):
        def __init__(self, **options):
            assert "file" not in options  # a file would make tqdm print into the cell
            made.append(self)
            super().__init__(**options)

    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", types.ModuleType("zmqshell"))
    monkeypatch.setattr(auto, "tqdm", Widget)
    loop.train(replace(tiny_run, examples=48), tiny_data, tmp_path)
    (widget,) = made
    assert (widget.n, widget.total, widget.desc.rstrip(": ")) == (48, 48, "tiny")
    err = capsys.readouterr().err
    assert "begins" not in err and "valid_nats" not in err


def test_other_processes_say_nothing(capsys):
    with console.progress("mnist", 100, 0, shown=False) as bar:
        bar.update(100)
    assert said(capsys) == []
