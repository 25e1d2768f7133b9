"""Charts of run records: what is in them, and where it stands."""

import xml.etree.ElementTree as ET

import pytest

import charts
import results

SVG = "{http://www.w3.org/2000/svg}"


def record(curve, *steps):
    return {"curve": curve, "evaluations": [{"kl_per_step": list(steps)}] if steps else []}


def test_a_curve_falls_from_left_to_right_and_every_step_has_its_bar():
    curve = [[100, 1.0, 120.0], [200, 10.0, 100.0], [300, 100.0, 90.0]]
    root = ET.fromstring(charts.of(record(curve, 4.0, 2.0, 1.0)))
    points = [
        tuple(map(float, p.split(",")))
        for p in root.find(f".//{SVG}polyline").get("points").split()
    ]
    x, y = zip(*points, strict=True)
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)  # logarithmic in the minutes
    assert y[1] - y[0] == pytest.approx(2 * (y[2] - y[1]), abs=0.2)  # linear in the value
    bars = [float(r.get("height")) for r in root.iter(f"{SVG}rect")][1:]
    assert bars[0] == pytest.approx(2 * bars[1], abs=0.2) == pytest.approx(4 * bars[2], abs=0.4)


@pytest.mark.parametrize(
    ("curve", "steps", "panels"),
    [
        ([[10, 1.0, 5.0]], (), 1),
        ([[10, 0.0, 5.0], [20, 0.0, 5.0]], (), 1),
        ([[10, 0.1, 0.003], [20, 3.0, 0.002]], (7.0,), 1),
        ([], (0.0, 0.0), 1),
    ],
)
def test_odd_records_have_charts_too(curve, steps, panels):
    assert len(ET.fromstring(charts.of(record(curve, *steps))).findall(f"{SVG}g")) == panels


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
