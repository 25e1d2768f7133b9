"""The table of a study: means, spreads, intervals, and a chart that shows just these."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drawnet.ablation import table
from drawnet.errors import UserError
from drawnet.evaluation.likelihood import Measure

for package in table.EXTRA:
    pytest.importorskip(package, reason="the tables' tests need the extra `plots`")

from matplotlib.colors import to_hex  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

BASE, OTHER = [100.0, 102.0, 101.0], [101.5, 104.0, 102.0]


def result(variant, seed, nats, claimed=None):
    measures = {"nats": Measure(nats), "rate": Measure(20.0), "distortion": Measure(nats - 20)}
    if claimed is not None:
        measures["claimed"] = Measure(claimed)
    return table.Result(
        "toy", "valid", 13, measures, examples=640, best_at=640, skipped=0, parameters=1234,
        cpu_seconds=60.0, images_per_second=100.0 + seed, variant=variant, seed=seed,
    )  # fmt: skip


def study():
    found = [result("baseline", seed, nats) for seed, nats in enumerate(BASE)]
    found += [result("no_read", seed, nats) for seed, nats in enumerate(OTHER)]
    return [*found, result("bug_kl_mean_steps", 1, 99.0, claimed=80.0)]


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (30, 2.042)]
)
def test_students_quantiles_are_the_published_ones(freedom, expected):
    assert table.student(freedom) == pytest.approx(expected, abs=1e-3)


def test_the_study_of_the_documents_has_the_intervals_it_had():
    """Taken before by quantiles of our own."""
    page = json.loads(Path("docs/ablation/table.json").read_text())
    base, *others = (table.Row(**row) for row in page["rows"])
    spread, freedom = table.pooled(r.bounds for r in (base, *others))
    for r in others:
        again = table.compared(replace(r, difference=None, interval=None), base, spread, freedom)
        assert again.interval == pytest.approx(r.interval, abs=1e-3)
        assert again.difference == pytest.approx(r.difference)


def test_a_row_is_means_spread_and_the_difference():
    base, row, bug = table.rows(study())
    assert (base.bound, base.spread, base.difference, base.interval) == (101.0, 1.0, None, None)
    assert row.bound == pytest.approx(102.5)
    assert row.spread == pytest.approx(math.sqrt(1.75))
    assert row.difference == pytest.approx(1.5)
    assert (row.rate, row.claimed, row.images_per_second) == (20, None, 101)
    assert (bug.spread, bug.difference, bug.claimed) == (None, -2.0, 80.0)


def test_the_interval_is_of_a_relative_spread_pooled_over_the_variants():
    base, row, bug = table.rows(study())
    squares = 2 / 101**2 + (1 + 1.5**2 + 0.5**2) / 102.5**2
    spread, freedom = table.pooled([BASE, OTHER, [99.0]])
    assert freedom == 4 and spread == pytest.approx(math.sqrt(squares / 4))
    for r in (row, bug):  # of one seed too
        error = math.sqrt(r.bound**2 / len(r.seeds) + base.bound**2 / 3)
        assert r.interval == pytest.approx(2.7764 * spread * error, rel=1e-4)
    alone = table.rows([result("baseline", 0, 100.0), result("gru", 1, 90.0)])[1]
    assert (alone.difference, alone.interval) == (-10.0, None), "one seed each has no spread"
    assert "| `gru` | 90.00 | -10.00 |" in table.markdown("toy", [base, alone])


def test_nineteen_of_twenty_intervals_hold_the_difference():
    """Two seeds, ten variants, a spread of 5 %: where Student's interval of one variant is useless."""
    rng, held, widths = np.random.default_rng(0), [], []
    for _ in range(100):
        found = []
        for k, name in enumerate(["baseline", *(f"v{i}" for i in range(10))]):
            mean = 100 + 5 * k
            found += [result(name, seed, mean * (1 + 0.05 * rng.normal())) for seed in range(2)]
        for k, row in enumerate(table.rows(found)[1:], 1):
            held.append(abs(row.difference - 5 * k) <= row.interval)
            widths.append(row.interval / row.bound)
    assert 0.93 < np.mean(held) < 0.97
    assert np.mean(widths) < 0.12


def test_without_a_baseline_nothing_is_compared():
    (row,) = table.rows([result("gru", 1, 90.0)])
    assert (row.difference, row.interval, row.bound) == (None, None, 90.0)
    assert "gru" not in table.plot("toy", [row])


def test_three_files_say_the_same(tmp_path):
    table.write(tmp_path, "valid", study(), {"t32": "it is the baseline"}, {"t1-seed0": "no luck"})
    rows = {r["variant"]: r for r in json.loads((tmp_path / "table.json").read_text())["rows"]}
    page = (tmp_path / "table.md").read_text()
    interval = rows["no_read"]["interval"]
    assert f"| `no_read` | 102.50 ± 1.32 | +1.50 ± {interval:.2f} |" in page
    interval = rows["bug_kl_mean_steps"]["interval"]
    assert f"| `bug_kl_mean_steps` | 99.00 | -2.00 ± {interval:.2f} | 80.00 |" in page
    assert "spread over seeds of 1.2% of the bound, pooled over all variants (4 degrees of" in page
    assert "toy, valid: 13 images" in page and "![Differences to the baseline](table.svg)" in page
    assert "t32 is left out: it is the baseline." in page and "t1-seed0 failed: no luck." in page
    assert rows["no_read"]["difference"] == pytest.approx(1.5)
    assert {"t32", "t1-seed0"} <= set(page.replace(":", " ").split())
    lengths = {line.count("|") for line in page.splitlines() if line.startswith("|")}
    assert len(lengths) == 1


def test_an_unfinished_study_has_no_table(tmp_path):
    table.write(tmp_path, "valid", [], {}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("absent", [["matplotlib"], ["scipy"], ["scipy", "matplotlib"]])
def test_a_missing_extra_does_not_lose_the_table(tmp_path, monkeypatch, capsys, absent):
    (tmp_path / "table.svg").write_text("an earlier one")
    for package in absent:
        monkeypatch.setitem(sys.modules, package, None)
    table.write(tmp_path, "valid", study(), {}, {})
    (line,) = capsys.readouterr().out.splitlines()
    page, chart = (tmp_path / "table.md").read_text(), tmp_path / "table.svg"
    assert line.startswith("No ") and "pip install 'drawnet[plots]'" in line and line in page
    assert chart.exists() == ("table.svg" in page) == ("matplotlib" not in absent)
    assert ("no_read` | 102.50 ± 1.32 | +1.50 |" in page) == ("scipy" in absent)
    assert len(json.loads((tmp_path / "table.json").read_text())["rows"]) == 3


def test_a_chart_without_the_extra_says_which_it_is(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'drawnet\[plots\]'"):
        table.plot("toy", [])


def test_the_chart_shows_every_seed_its_mean_and_interval_where_they_are():
    shift = {"no_read": -3.0, "gru": 0.2, "rnn": 8.0, "t1": 60.0}
    found = [result("baseline", seed, nats) for seed, nats in enumerate(BASE)]
    for name, mean in shift.items():
        found += [result(name, k, b + mean + 0.1 * (k - 1)) for k, b in enumerate(BASE)]
    rows = table.rows(found)
    table.differences(axes := Figure().add_subplot(), "a", rows)
    assert axes.get_xscale() == "asinh"
    assert [t.get_text() for t in axes.get_yticklabels()] == list(shift), "best first"
    low, high = sorted(axes.get_xlim())
    colours = [table.BETTER, table.UNSURE, table.WORSE, table.WORSE]
    bars, seeds, means = (axes.collections[k::3] for k in range(3))
    for y, row in enumerate(rows[1:]):
        assert means[y].get_offsets().tolist() == [[row.difference, y]]
        ends = [row.difference - row.interval, row.difference + row.interval]
        assert bars[y].get_segments()[0] == pytest.approx(np.array([[ends[0], y], [ends[1], y]]))
        dots = [[b - rows[0].bound, y] for b in row.bounds]
        assert np.array(seeds[y].get_offsets()) == pytest.approx(np.array(dots))
        assert low < min(ends[0], dots[0][0]) and max(ends[1], dots[2][0]) < high
        said = [axes.texts[y].get_color(), to_hex(bars[y].get_color()[0])]
        assert said == [colours[y], to_hex(means[y].get_facecolor()[0])] == 2 * [colours[y]]
        assert axes.texts[y].get_text() == table.plus_minus(row.difference, row.interval, "+")


def test_a_claim_is_a_diamond():
    table.differences(axes := Figure().add_subplot(), "toy", table.rows(study()))
    (claim,) = [c for c in axes.collections if to_hex(c.get_edgecolor()[0]) == table.CLAIM]
    assert claim.get_offsets().tolist() == [[80.0 - 101.0, 0]]


def test_a_chart_is_the_same_text_every_time():
    one, other = (table.plot("a < b $x^2$", table.rows(study())) for _ in range(2))
    assert one == other and "a &lt; b $x^2$; baseline 101.00 ± 1.00</text>" in one
