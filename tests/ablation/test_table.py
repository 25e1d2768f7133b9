"""The table of a study: means, spreads, intervals, and a plot that shows just these."""

import json
import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest

from drawnet.ablation import table

BASE, OTHER = [100.0, 102.0, 101.0], [101.5, 104.0, 102.0]


def result(variant, seed, nats, claimed=None):
    measures = {"nats": {"mean": nats}, "rate": {"mean": 20.0}, "distortion": {"mean": nats - 20}}
    if claimed is not None:
        measures["claimed"] = {"mean": claimed}
    return {
        "variant": variant, "seed": seed, "measures": measures, "dataset": "toy", "split": "valid",
        "images": 13, "parameters": 1234, "images_per_second": 100.0 + seed, "examples": 640,
        "cpu_seconds": 60.0, "best_at": 640, "skipped": 0,
    }  # fmt: skip


def study():
    found = [result("baseline", seed, nats) for seed, nats in enumerate(BASE)]
    found += [result("no_read", seed, nats) for seed, nats in enumerate(OTHER)]
    return [*found, result("bug_kl_mean_steps", 1, 99.0, claimed=80.0)]


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (30, 2.042)]
)
def test_students_quantiles_are_the_published_ones(freedom, expected):
    assert table.student(freedom) == pytest.approx(expected, abs=1e-3)


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
    assert "| `gru` | 90.00 | -10.00 |" in table.markdown("toy", [base, alone], [])


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


def test_the_plot_shows_every_seed_its_mean_and_interval_where_they_are():
    shift = {"no_read": -3.0, "gru": 0.2, "rnn": 8.0, "t1": 60.0}
    found = [result("baseline", seed, nats) for seed, nats in enumerate(BASE)]
    for name, mean in shift.items():
        found += [result(name, k, b + mean + 0.1 * (k - 1)) for k, b in enumerate(BASE)]
    root = ET.fromstring(table.plot("a < b", table.rows(found)))
    assert any("a < b" in (t.text or "") for t in root.findall(".//{*}text"))
    dots = [
        (float(c.get("cx")), float(c.get("cy")), float(c.get("r")))
        for c in root.findall(".//{*}circle")
    ]
    means = [(x, y) for x, y, r in dots if r > 4]
    seeds = [(x, y) for x, y, r in dots if r < 4]
    assert len(means) == 4 and len(seeds) == 12
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(means)), "best first, asinh rises"
    zero, unit = means[1][0], (means[3][0] - means[2][0]) / (math.asinh(60) - math.asinh(8))
    for (x, _), value in zip(means, (-3, 0.2, 8, 60), strict=True):
        assert x - zero == pytest.approx(unit * (math.asinh(value) - math.asinh(0.2)), abs=0.2)
    bars = [e for e in root.findall(".//{*}line") if e.get("stroke-width") == "2"]
    assert len(bars) == 4
    for bar, (x, y) in zip(bars, means, strict=True):
        assert float(bar.get("x1")) < x < float(bar.get("x2")) and float(bar.get("y1")) == y
    colours = [bar.get("stroke") for bar in bars]
    assert colours == [table.BETTER, table.UNSURE, table.WORSE, table.WORSE]


def test_a_claim_is_a_diamond():
    assert table.plot("toy", table.rows(study())).count("<polygon") == 1
