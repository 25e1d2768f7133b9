"""The study: which runs, under which budget, found again after every kind of stop."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from drawnet import ablation, cli, recipes
from drawnet.ablation import jobs, study, variants
from drawnet.ablation.study import Budget, Study
from drawnet.data.pipeline import View
from drawnet.errors import UserError
from drawnet.evaluation import likelihood
from drawnet.models.draw import DrawConfig
from drawnet.models.draw_variant import DrawVariantConfig
from drawnet.training import checkpoint, loop
from drawnet.training.config import Run, from_json, to_json
from reference import position, until


def of(run, tmp_path, *names, **settings):
    return Study(run, Budget(images=64), tmp_path, names, **settings)


# ---- variants -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ablation.titles()))
def test_a_variant_changes_one_thing_of_the_model(name):
    assert ablation.titles()[name].endswith("."), "a variant says what it is"
    run = recipes.get("mnist")
    other = getattr(variants, name)(run)
    assert replace(other, model=run.model) == run
    assert from_json(json.loads(json.dumps(to_json(other)))) == other
    same = DrawVariantConfig(**vars(run.model))
    changed = {k for k, v in vars(other.model).items() if v != getattr(same, k)}
    expected = {"baseline": 0, "t64": 0, "no_attention": 2}
    assert len(changed) == expected.get(name, 1), changed


def test_the_study_knows_all_that_it_should():
    names = set(ablation.titles())
    assert {"no_read", "no_write", "no_attention", "no_error_image", "no_feedback"} <= names
    assert {"zero_states", "rnn", "gru", "shared_window", "no_gamma", "learned_prior"} <= names
    assert {f"t{2**k}" for k in range(7)} <= names and {"z10", "z50", "z200"} <= names
    assert next(iter(ablation.titles())) == "baseline"
    assert sum(name.startswith("bug_") for name in names) >= 6


# ---- the plan -----------------------------------------------------------------------------------


def test_the_plan_has_the_baseline_and_leaves_out_what_it_is(tmp_path):
    run = recipes.get("mnist")
    runs, left = study.planned(of(run, tmp_path, "no_read", "t64", "gru"))
    assert list(runs) == ["baseline", "no_read", "gru"] and runs["baseline"] == run
    assert left == {"t64": "it is the baseline"}
    runs, left = study.planned(of(run, tmp_path))
    assert runs.keys() | left.keys() == set(ablation.titles()) and set(left) == {"t64"}


def test_what_does_not_apply_is_left_out_unless_named(tmp_path):
    run = recipes.get("mnist_no_attention")
    runs, left = study.planned(of(run, tmp_path))
    assert {"shared_window", "no_gamma", "no_read", "bug_sigma"} <= set(left) and "gru" in runs
    with pytest.raises(UserError, match="variant shared_window: without"):
        study.planned(of(run, tmp_path, "shared_window"))


def test_a_budget_sets_the_schedule(tiny_run):
    run = replace(tiny_run, warmup=10_000, kl_warmup=10_000, save_every=10_000)
    got = jobs.budgeted(run, 8000)
    assert (got.examples, got.warmup, got.kl_warmup) == (8000, 800, 2000)
    assert (got.evaluate_every, got.save_every) == (1600, 400)
    few = replace(run, warmup=5, kl_warmup=6, save_every=7)
    got = jobs.budgeted(few, 8000)
    assert (got.warmup, got.kl_warmup, got.save_every) == (5, 6, 7)
    assert jobs.budgeted(run, 1).evaluate_every == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give one of them"),
        ({"minutes": 1.0, "images": 3}, "give one of them"),
        ({"minutes": 0.0}, "--minutes is 0.0; it must be greater than 0"),
        ({"images": -2}, "--images is -2; it must be greater than 0"),
    ],
)
def test_senseless_budgets(settings, message):
    with pytest.raises(UserError, match=message):
        Budget(**settings)


def test_a_folder_keeps_one_study(tiny_run, tmp_path):
    study.agree(of(tiny_run, tmp_path))
    study.agree(of(tiny_run, tmp_path, "gru", seeds=7, jobs=3))  # more of it is the same study
    with pytest.raises(UserError, match=r"another study \(images is 64 there and 65 here\)"):
        study.agree(replace(of(tiny_run, tmp_path), budget=Budget(images=65)))
    with pytest.raises(UserError, match=r"model\.units is 12 there and 13 here"):
        study.agree(of(replace(tiny_run, model=replace(tiny_run.model, units=13)), tmp_path))
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(UserError, match=r"study\.json is not JSON"):
        study.agree(of(tiny_run, tmp_path))


# ---- a job --------------------------------------------------------------------------------------


def test_minutes_become_examples_by_a_measured_rate(tiny_run, tiny_data):
    record = jobs.timed(tiny_run, tiny_data, 0.01)
    rate, examples = record.images_per_second, record.examples
    assert rate > 0 and examples % tiny_run.batch == 0
    assert examples == pytest.approx(0.6 * rate, abs=tiny_run.batch)


def test_a_measured_rate_is_not_measured_again(tiny_run, tmp_path):
    plan = replace(of(tiny_run, tmp_path), budget=Budget(minutes=1))
    runs = {"baseline": tiny_run, "gru": tiny_run}
    path = study.rate_file(plan, "gru")
    path.parent.mkdir()
    path.write_text('{"images_per_second": 1, "examples": 80}')
    assert [name for name, _ in study.timings(plan, runs)] == ["baseline's speed"]
    (job,) = (job for _, job in study.trainings(replace(plan, seeds=1), {"gru": tiny_run}))
    assert job.run.examples == 80


def test_a_finished_run_says_what_evaluation_says(tiny_run, tiny_data, tmp_path):
    model = DrawVariantConfig(**vars(tiny_run.model), one_noise=True)
    run = jobs.budgeted(replace(tiny_run, model=model), 64)
    record = jobs.trained(run, tiny_data, tmp_path / "run", "test")
    network = checkpoint.load_model(tmp_path / "run").network
    e = likelihood.evaluate(network, View(tiny_data, "test"))
    means = {name: m.mean for name, m in record.measures.items()}
    assert means["nats"] == pytest.approx(e.elbo_nats, rel=1e-6)
    assert means["rate"] == pytest.approx(e.rate_nats, rel=1e-6)
    assert means["claimed"] != means["nats"]
    assert (record.images, record.examples) == (11, 64)
    assert record.parameters == sum(p.numel() for p in network.parameters())
    assert jobs.trained(run, tiny_data, tmp_path / "run", "test").measures == record.measures


# ---- the command --------------------------------------------------------------------------------

WORDS = ["ablate", "digits_quick", "--variants", "no_error_image", "--seeds", "1", "--jobs", "2"]
WORDS += ["--images", "6000", "--batch", "16", "--model.steps", "2", "--model.units", "8"]
WORDS += ["--validation-images", "20", "--precision", "float32", "--out"]


def go(folder):
    command = [sys.executable, "-m", "drawnet", *WORDS, str(folder)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


@pytest.mark.slow
def test_stopped_and_killed_in_the_middle_it_goes_on_where_it_was(tmp_path, capsys):
    runs = [tmp_path / f"{name}-seed0" for name in ("baseline", "no_error_image")]
    reached = 0
    for number in (signal.SIGTERM, signal.SIGKILL):
        with go(tmp_path) as process:
            until(lambda seen=reached: position(runs[0]) > seen)
            process.send_signal(number)
            out = process.communicate(timeout=60)[0].decode()
        assert process.returncode == (130 if number == signal.SIGTERM else -signal.SIGKILL)
        if number == signal.SIGTERM:
            assert "stopped by SIGTERM" in out
        jobs.wait_for_lock(runs[0])  # those that are left behind stop by themselves
        assert reached < position(runs[0]) < 6000, "too fast for this test"
        assert not (runs[0] / "valid.json").exists()
        reached = position(runs[0])
    cli.main([*WORDS, str(tmp_path)])
    out = capsys.readouterr().out
    assert "baseline-seed0: " in out and "table.md" in out
    for run in runs:
        record = json.loads((run / "valid.json").read_text())
        assert record["examples"] == 6000 and record["images"] == 500
    # What went on is what would have been.
    job = checkpoint.load_model(runs[0]).run
    assert job.model == DrawConfig(2, 8, 32, 2, 5) and job.warmup == 600
    loop.train(job, job.data.load(), tmp_path / "whole")
    one, two = (
        checkpoint.load_tensors(p / "training.safetensors")[0]
        for p in (runs[0], tmp_path / "whole")
    )
    assert all(torch.equal(one[name], two[name]) for name in two)
    # Nothing is left to do; a second split is only measured.
    before = (tmp_path / "table.json").read_text()
    cli.main([*WORDS, str(tmp_path)])
    assert "[" not in capsys.readouterr().out
    assert (tmp_path / "table.json").read_text() == before
    assert len(json.loads(before)["rows"]) == 2


@pytest.mark.slow
def test_runs_that_fail_are_named_and_the_others_stand(tmp_path, capsys):
    """A learning rate at which the weights blow up."""
    words = [*WORDS[:-1], "--images", "320", "--lr", "1e30", "--clip", "1e30", "--skip-limit", "2"]
    with pytest.raises(SystemExit) as end:
        cli.main([*words, "--out", str(tmp_path)])
    assert end.value.code == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and "drawnet: 2 failed: " in line
    assert "baseline-seed0: drawnet: " in line and "no_error_image-seed0: drawnet: " in line
    assert "not finite" in line and not (tmp_path / "table.md").exists()


def test_a_model_of_another_kind_has_no_variants(tmp_path):
    with pytest.raises(UserError, match="variants are DRAW's"):
        study.planned(of(Run("mnist_vae", recipes.get("mnist_vae").model), tmp_path))
