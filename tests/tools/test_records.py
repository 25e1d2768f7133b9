"""Run records: what they hold, the command that they name, the table, and bad input."""

import json
import os
import shlex
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

import record as record_tool
import records
import results as results_tool
from drawnet import cli, recipes
from drawnet.cli import guarded
from drawnet.cli._shared import parse
from drawnet.cli.train import Train
from drawnet.errors import UserError
from drawnet.evaluation.likelihood import Evaluation, Measure
from drawnet.training import checkpoint, loop, provenance

TOOLS = {"record": record_tool.main, "results": results_tool.main}


def main(words):
    """`python tools/NAME.py …`, or `drawnet NAME …`."""
    name, *rest = words
    guarded(TOOLS[name], rest) if name in TOOLS else cli.main(words)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A step model's run of the embedded digits, and two evaluations of it."""
    root = tmp_path_factory.mktemp("records")
    words = (
        "train digits_quick --examples 320 --batch 32 --evaluate-every 160 --validation-images 50"
    )
    main([*words.split(), "--model.steps", "3", "--seed", "4", "--out", str(root / "run")])
    for name, more in (("whole", []), ("tight", ["--importance-samples", "3"])):
        out = ["--images", "20", "--out", str(root / f"{name}.json")]
        main(["evaluate", str(root / "run"), *out, *more])
    return root


@pytest.fixture(scope="module")
def record(runs):
    main(["record", str(runs / "run"), str(runs / "whole.json"), str(runs / "tight.json"),
          "--out", str(runs / "mine" / "small.json")])  # fmt: skip
    return runs / "mine" / "small.json"


def test_a_record_holds_what_a_reader_asks(runs, record):
    r = json.loads(record.read_text())
    model = checkpoint.load_model(runs / "run")
    assert r["recipe"] == "digits_quick" and r["examples"] in (160, 320)
    assert r["parameters"] == sum(p.numel() for p in model.network.parameters())
    assert r["data"]["checksum"] == model.header.data.checksum and r["data"]["licence"]
    assert r["made"] == asdict(provenance.build_metadata())
    assert [e["importance_samples"] for e in r["evaluations"]] == [None, 3]
    assert [row[0] for row in r["curve"]] == [160, 320]
    assert min(row[2] for row in r["curve"]) == pytest.approx(model.header.valid["nats"], abs=1e-3)


def test_a_record_names_the_run_that_its_run_began_from(runs, record, tmp_path, capsys):
    second, out = tmp_path / "second", tmp_path / "second.json"
    words = "train digits_quick --examples 64 --batch 32 --model.steps 3 --validation-images 50"
    main([*words.split(), "--init", str(runs / "run"), "--out", str(second)])
    weights = tmp_path / "small.safetensors"
    main(["record", str(second), str(runs / "whole.json"), "--before", str(record), "--out", str(out),
          "--weights", str(weights)])  # fmt: skip
    first, r = (json.loads(path.read_text()) for path in (record, out))
    assert r["before"] == {name: first[name] for name in ("command", "examples", "cpu_minutes")}
    assert "before" not in first
    found = records.read([record, out])
    assert f"| {first['examples']:,} + 64 |" in records.table(found)
    records.write(found, tmp_path / "page.md")
    assert f"from the weights of `{first['command']}`" in (tmp_path / "page.md").read_text()
    origin = checkpoint.load_header(weights)["origin"]
    assert origin["path"] == "model.safetensors" and origin["examples"] == first["examples"]
    with pytest.raises(SystemExit):
        main(["record", str(runs / "run"), "--before", str(record), "--out", str(out)])
    assert "began from random weights" in capsys.readouterr().err


def test_the_command_of_a_record_is_the_run(runs):
    run = checkpoint.load_model(runs / "run").run
    program, name, *words = shlex.split(records.command(run))
    assert (program, name) == ("drawnet", "train")
    again = parse(Train[type(run.model)], "train", words[1:], Train(recipes.get(words[0])))
    assert replace(again.run, precision=run.precision) == run


@pytest.mark.parametrize("name", recipes.names())
def test_the_command_of_every_recipe_takes_options(name):
    run = recipes.get(name)
    odd = replace(run, data=replace(run.data, grey=True, options={"which": "frey"}))
    _, _, told, *words = shlex.split(records.command(odd))
    assert parse(Train[type(run.model)], "train", words, Train(recipes.get(told))).run == odd


def test_the_table_keeps_bound_and_estimate_apart(record, capsys):
    capsys.readouterr()
    main(["results", str(record.parent)])
    header, _, row = capsys.readouterr().out.strip().splitlines()
    cells = dict(zip(header.split("|"), row.split("|"), strict=True))
    r = json.loads(record.read_text())
    whole, tight = r["evaluations"]
    bound = f"{whole['elbo_nats']:.2f} ± {whole['elbo_stderr']:.2f} nats (20 test images)"
    assert cells[" bound or error "].strip() == bound
    plain = f"{tight['elbo_nats']:.2f} ± {tight['elbo_stderr']:.2f}"
    gap = f"{tight['elbo_nats'] - tight['iw_nats']:.2f} ± {tight['iw_gap_stderr']:.2f}"
    estimate = f"{tight['iw_nats']:.2f} ± {tight['iw_stderr']:.2f} nats (K = 3, 20 test images; "
    estimate += f"their one-sample bound {plain}, gap {gap})"
    assert cells[" K-sample bound "].strip() == estimate


def test_the_page_names_command_machine_and_curve(record, tmp_path):
    main(["results", str(record), "--out", str(tmp_path / "results.md")])
    page = (tmp_path / "results.md").read_text()
    r = json.loads(record.read_text())
    assert r["command"] in page and r["made"]["processor"] in page
    assert f"| 320 | {r['curve'][-1][1]} | {r['curve'][-1][2]:.4g} |" in page


def test_every_kind_of_measure_has_its_words():
    bound = Evaluation("x", "test", 1000, 80.0, 0.5, 20.0, 60.0, None, None, 0.147, [20.0])
    cost = replace(bound, cross_entropy_cost_nats=1825.8)
    words = {
        "80.00 ± 0.50 nats (1,000 test images)": (True, bound),
        "0.147 bits/dim (1,000 test images)": (False, bound),
        "0.147 bits/dim (1,000 test images); cost 1825.8 nats, no bound (1,000 test images)": (
            False,
            cost,
        ),
        "cost 1825.8 nats, no bound (1,000 test images)": (
            False,
            replace(cost, elbo_nats=None, bits_per_dim=None),
        ),
    }
    measured = {
        "4.18 ± 0.20 % (1,000 test images)": {"error": Measure(0.0418, 0.002)},
        "picture 0.007137 ± 2.9e-05 (1,000 test images)": {
            "picture": Measure(0.0071371, 2.9e-05),
            "loss": Measure(3, 1),
        },
    }
    for said, measures in measured.items():
        words[said] = True, records.Measured("x", "test", 1000, measures)
    drawn = records.Measured("x", "test", 9, {"error": Measure(0.0349, 0.001, 0.0017)}, draws=10)
    said = "3.49 ± 0.10 % (mean of 10 draws of 9 test images; between draws, standard deviation 0.17 %)"
    words[said] = True, drawn
    parzen = records.Measured("x", "test", 1000, {"parzen": Measure(214.02, 1.1)}, 50)
    words["214.0 ± 1.1 nats by Parzen (50 samples, 1,000 test images)"] = True, parzen
    for said, (binary, evaluation) in words.items():
        assert records._cells([evaluation], binary=binary) == (said, "–")


def test_where_a_result_comes_from():
    told = provenance.build_metadata()
    assert told.torch and "cores" in told.processor and told.drawnet and told.threads
    assert told.device == "cpu" and records._machine(told) == told.processor
    other = replace(told, device="cuda: NVIDIA H100")
    assert records._machine(other) == f"cuda: NVIDIA H100; {told.processor}"


def test_rounded_weights_are_the_same_model(runs, tmp_path, capsys):
    path = tmp_path / "small.safetensors"
    main(["record", str(runs / "run"), "--out", str(tmp_path / "r.json"), "--weights", str(path)])
    whole, half = (checkpoint.load_model(p) for p in (runs / "run", path))
    assert path.stat().st_size < 0.6 * (runs / "run" / "model.safetensors").stat().st_size
    assert half.run == whole.run and half.header == whole.header
    pairs = zip(whole.network.parameters(), half.network.parameters(), strict=True)
    for a, b in pairs:
        assert b.dtype == torch.float32 and torch.equal(b, a.bfloat16().float())


def test_of_weights_and_their_card_both_are_written_or_none(runs, tmp_path, monkeypatch, capsys):
    """The card's place is taken, or the disk is full when it is its turn."""
    words = ["record", str(runs / "run"), "--out", str(tmp_path / "r.json"), "--weights"]
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(SystemExit, match="2"):
        main([*words, str(tmp_path / "taken.safetensors")])
    assert "is a folder: name a file" in capsys.readouterr().err
    real, left = os.fsync, iter((True, True, False))

    def full(file):
        if not next(left):
            raise OSError(28, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit, match="2"):
        main([*words, str(tmp_path / "small.safetensors")])
    assert "No space left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["taken.json"]


def test_a_record_of_a_run_whose_last_line_was_cut(runs, tmp_path):
    shutil.copytree(runs / "run", tmp_path / "run")
    whole = records.build_record(tmp_path / "run", [])
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"examples": 320, "seco')
    assert records.build_record(tmp_path / "run", []) == whole


def test_the_records_of_the_documents_are_read():
    for name, found in records.read([Path("docs/records")]).items():
        again = json.loads(found.text())
        before = json.loads(Path(f"docs/records/{name}.json").read_text())
        assert again["evaluations"] == before["evaluations"] and again["curve"] == before["curve"]


def test_weights_of_an_older_run_are_given_their_commit(runs, tmp_path):
    found = records.build_record(runs / "run" / "model.safetensors", [], commit="abc1234")
    assert found.made.commit == "abc1234" and found.curve == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["record", "run", "run/metrics.jsonl", "--out", "x.json"],
            "metrics.jsonl is not JSON",
        ),
        (
            ["record", "run", "nowhere.json", "--out", "x.json"],
            "nowhere.json is not there",
        ),
        (["record", "nowhere", "--out", "x.json"], "nowhere"),
        (["results", "whole.json"], "whole.json: recipe is missing"),
        (["results", "run"], "no records in run"),
    ],
)
def test_bad_input_gets_one_line(runs, monkeypatch, capsys, words, message):
    monkeypatch.chdir(runs)
    with pytest.raises(SystemExit, match="2"):
        main(words)
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (runs / "x.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "e.json is not JSON"),
        ("[1]", r"e.json is \[1\]; it must be an object"),
        ('{"plan": 1, "rows": [1]}', "plan is 1; it must be an object"),
        ('{"plan": {}, "rows": 2}', "rows is 2; it must be a valid array"),
        ('{"dataset": "x", "split": "test", "images": 3}', "measures is missing"),
        (
            '{"dataset": "x", "split": "test", "images": 0, "a": {"mean": 1}}',
            "images is 0; it must",
        ),
        (
            '{"dataset": "x", "split": "test", "images": 3, "a": 1}',
            "measures.a is 1; it must be an",
        ),
    ],
)
def test_an_evaluation_of_nothing_is_refused(runs, tmp_path, text, message):
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(UserError, match=message):
        records.build_record(runs / "run", [tmp_path / "e.json"])


def test_what_is_measured_on_samples(runs, tmp_path, monkeypatch):
    """A comparison is part of the record of the one run that it is of."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = [str(runs / "run"), "--samples", "40", "--images", "50"]
    main(["compare", *words, "--out", str(tmp_path / "one.json")])
    compared = json.loads((tmp_path / "one.json").read_text())
    (found,) = records.build_record(runs / "run", [tmp_path / "one.json"]).evaluations
    parzen = compared["rows"][0]["figures"]["parzen"]
    assert found.measures["parzen"] == Measure(parzen["value"], parzen["stderr"])
    assert (found.samples, found.images, found.split) == (40, 50, "test")
    compared["rows"] *= 2
    (tmp_path / "two.json").write_text(json.dumps(compared))
    with pytest.raises(UserError, match="it compares 2 runs"):
        records.build_record(runs / "run", [tmp_path / "two.json"])


def test_training_notes_where_it_ran(tiny_run, tiny_data, tmp_path):
    loop.train(replace(tiny_run, examples=16), tiny_data, tmp_path)
    assert checkpoint.load_model(tmp_path).header.made == provenance.build_metadata()
