"""`drawnet evaluate`: tighter bounds with their gaps, several draws."""

import json
import re

import pytest

from drawnet import cli

TINY = "--model.steps 3 --model.units 8 --model.latents 4 --examples 160 --batch 16"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder that the command line made from the embedded digits."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    cli.main(["train", "digits_quick", *TINY.split(), "--out", str(folder)])
    return folder


def evaluated(run, tmp_path, capsys, *words):
    """What the command prints, and the JSON that it writes."""
    capsys.readouterr()
    path = tmp_path / "e.json"
    cli.main(["evaluate", str(run), "--images", "20", *words, "--out", str(path)])
    return capsys.readouterr().out, json.loads(path.read_text())


def test_tighter_bounds_have_their_errors_and_gaps(capsys, run, tmp_path):
    out, e = evaluated(run, tmp_path, capsys, "--importance-samples", "20", "--refine", "2")
    for name, key in (("refined", "refined"), ("K = 20", "iw")):
        nats, error, gap_error = (e[f"{key}_{k}"] for k in ("nats", "stderr", "gap_stderr"))
        gap = f"{e['elbo_nats'] - nats:.2f} ± {gap_error:.2f} below the bound"
        assert re.search(rf"^{name} +{nats:.2f} ± {error:.2f} nats, {gap}$", out, re.M)
        assert gap_error < error
    assert e["refine_steps"] == 2


def test_several_draws(capsys, run, tmp_path):
    out, e = evaluated(run, tmp_path, capsys, "--draws", "3")
    assert e["draws"] == 3 and e["nats"]["sd"] > 0
    assert re.search(r"^nats +\d+\.\d+ ± \d+\.\d+   between draws, sd \d+\.\d+$", out, re.M)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--draws", "1"], "--draws is 1"),
        (["--draws", "3", "--refine", "2"], "leave out --importance-samples, --refine"),
        (["--refine", "0"], "--refine is 0"),
    ],
)
def test_what_does_not_fit_gets_one_line(capsys, run, words, message):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["evaluate", str(run), *words])
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and message in said[0]
