"""Where the nats go: what is measured, continued after a stop, and refused."""

import json

import pytest

import nats
from drawnet import weights
from drawnet.cli import guarded
from drawnet.data.config import Data
from drawnet.evaluation.likelihood import batches
from drawnet.training import loop

WORDS = ["tiny", "--images", "5", "--importance-samples", "3", "--refine", "2"]


@pytest.fixture
def place(tmp_path, monkeypatch, tiny_run, tiny_data):
    """A folder, with weights of a tiny model as the only bundled ones, and three images a batch."""
    loop.train(tiny_run, tiny_data, tmp_path / "run", kernels="off")
    path = tmp_path / "tiny.safetensors"
    path.write_bytes((tmp_path / "run" / "model.safetensors").read_bytes())
    monkeypatch.setattr(weights, "bundled", lambda: {"tiny": path})
    monkeypatch.setattr(Data, "load", lambda *_: tiny_data)
    monkeypatch.setattr(nats, "ROWS", 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_bounds_and_their_differences(place, capsys):
    nats.main([*WORDS, "--out", "page.md"])
    head, _, row = capsys.readouterr().out.strip().splitlines()
    cells = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    lines = (place / "runs/nats/tiny-test.jsonl").read_text().splitlines()[1:]
    parts = [json.loads(line) for line in lines]
    mean = {k: sum(v for p in parts for v in p[k]) / 5 for k in nats.METRICS}
    assert cells["images"] == "5"
    assert cells["test bound"].startswith(f"{mean['nats']:.2f} ±")
    assert cells["K = 3"].startswith(f"{mean['iw']:.2f} ±")
    gain = f"{mean['nats'] - mean['refined']:.2f} ±"
    assert cells["amortisation, at least"].startswith(gain)
    assert row in (place / "page.md").read_text()


def test_a_stopped_measurement_goes_on(place, capsys, monkeypatch):
    nats.main(WORDS)
    whole = (place / "runs/nats/tiny-test.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    (place / "runs/nats/tiny-test.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:9])
    skipped = []

    def noted(*arguments, **settings):
        skipped.append(settings["skip"])
        return batches(*arguments, **settings)

    monkeypatch.setattr(nats, "batches", noted)
    nats.main(WORDS)
    assert (place / "runs/nats/tiny-test.jsonl").read_bytes() == whole
    assert skipped == [5, 3], "of train nothing is left, of test the second batch"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*WORDS, "--seed", "1"], "other weights, images or settings"),
        (["tine"], "did you mean 'tiny'"),
        ([*WORDS, "--out", "page.html"], "page.html should end in .md"),
    ],
)
def test_what_does_not_fit_gets_one_line(place, capsys, words, message):
    nats.main(WORDS)
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        guarded(nats.main, words)
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and message in said[0]
