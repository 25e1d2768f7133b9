"""Charts of run records: what is in them, and where it stands."""

import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest

import charts
import results

figure = pytest.importorskip("matplotlib.figure", reason="charts need the extra `plots`")


def record(curve, *steps):
    evaluations = [SimpleNamespace(kl_per_step=list(steps))] if steps else []
    return SimpleNamespace(curve=curve, evaluations=evaluations)


def test_a_curve_is_over_the_logarithm_of_the_minutes_and_every_step_has_its_bar():
    one, other = figure.Figure().subplots(1, 2)
    charts.learning(one, [(1.0, 120.0), (10.0, 100.0), (100.0, 90.0)])
    assert one.get_xscale() == "log" and one.get_yscale() == "linear"
    assert one.lines[0].get_xydata().tolist() == [[1, 120], [10, 100], [100, 90]]
    charts.rates(other, [4.0, 2.0, 1.0])
    assert [bar.get_height() for bar in other.patches] == [4, 2, 1]
    assert [bar.get_center()[0] for bar in other.patches] == [1, 2, 3]
    assert other.get_ylim()[0] == 0


@pytest.mark.parametrize(
    ("curve", "steps", "panels"),
    [
        ([[10, 1.0, 5.0]], (), 1),
        ([[10, 0.0, 5.0], [20, 0.0, 5.0]], (), 1),
        ([[10, 0.1, 0.003], [20, 3.0, 0.002]], (7.0,), 1),
        ([[10, 0.1, 0.003], [20, 3.0, 0.002]], (7.0, 3.0), 2),
        ([], (0.0, 0.0), 1),
    ],
)
def test_odd_records_have_charts_too(curve, steps, panels):
    root = ET.fromstring(chart := charts.of(record(curve, *steps)))
    assert len(root.findall(".//*[@id='axes_1']") + root.findall(".//*[@id='axes_2']")) == panels
    assert charts.of(record(curve, *steps)) == chart, "the same text every time"


def test_nothing_to_show_is_no_chart():
    assert charts.of(record([])) == ""


def test_the_page_shows_its_charts_and_the_pictures_beside_it(tmp_path):
    (tmp_path / "results").mkdir()
    for name in ("mnist-stages.png", "mnist.png", "mnist_conv.png", "other.png"):
        (tmp_path / "results" / name).write_bytes(b"")
    results.main(["docs/records/mnist.json", "--out", str(tmp_path / "results.md")])
    shown = [line for line in (tmp_path / "results.md").read_text().splitlines() if "![" in line]
    names = ("mnist.svg", "mnist.png", "mnist-stages.png")
    assert shown == [f"![mnist](results/{name})" for name in names]
