"""Strokes: where the write window went, as an SVG."""

import xml.etree.ElementTree as ET

import pytest
import torch

from drawnet import cli
from drawnet.drawing import strokes
from drawnet.drawing.figures import Trajectory

SVG = "{http://www.w3.org/2000/svg}"


def trajectory():
    """Two images of 10 × 12: one draws a line down, lifts the pen, and sets a dot; one draws nothing."""
    frames, windows = torch.zeros(6, 2, 1, 10, 12), torch.ones(5, 2, 4)
    for t, (row, ink) in enumerate(((2, 1.0), (3, 0.5), (4, 0.8), (7, 0.0), (9, 1.0)), 1):
        frames[t] = frames[t - 1]
        frames[t, 0, 0, row - 1, 4] = ink
        windows[t - 1, 0] = torch.tensor([5.0, row, 4.0, 0.7])
    return Trajectory(frames, {"write": windows})


def test_a_step_is_a_point_with_a_width_and_its_ink():
    found = strokes.strokes(trajectory())
    assert found.shape == (5, 2, 4)
    torch.testing.assert_close(found[1, 0], torch.tensor([5.0, 3.0, 1.4, 0.25]))
    assert (found[:, 0, 3] > 0).tolist() == [True, True, True, False, True]


def test_ink_that_does_not_stay_is_no_stroke():
    made = trajectory()
    made.frames[5, 0, 0, 1] = 0  # the last step takes the first one's away
    assert strokes.strokes(made)[:, 0, 3].tolist() == pytest.approx([0, 0.25, 0.64, 0, 1])


def test_the_pen_goes_down_where_there_is_ink_and_up_where_there_is_none():
    root = ET.fromstring(strokes.svg(trajectory()))
    assert root.get("viewBox") == "0 0 36 18" and root.get("width") == "36mm"
    first, second = root.findall(f"{SVG}g")
    paths = [path.get("d") for path in first]
    assert paths == ["M4.50 1.50L4.50 1.50", "M4.50 1.50L4.50 2.50", "M4.50 2.50L4.50 3.50",
                     "M4.50 8.50L4.50 8.50"]  # fmt: skip
    assert not len(second)
    assert first.get("transform") == "translate(4 4)"
    assert second.get("transform") == "translate(20 4)"


def test_the_command_writes_them(tmp_path, capsys):
    out = tmp_path / "digits.svg"
    cli.main(["sample", "mnist", "-n", "2", "--seed", "1", "--out", str(out), "--kernels", "off"])
    groups = ET.parse(out).getroot().findall(f"{SVG}g")
    assert len(groups) == 2 and all(len(group) > 10 for group in groups)


def test_a_model_without_windows_gets_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["sample", "mnist_conv", "--out", str(tmp_path / "digits.svg")])
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("\n") == 1 and "write window" in said
    assert not list(tmp_path.iterdir())
