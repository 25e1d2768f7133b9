"""The benchmark's contestants all do what they are timed for."""

import pytest
import speed
from speed import MODES, Case


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", ["draw", "conv_draw", "stem_draw", "patch_draw"])
def test_every_contestant_runs(model, mode):
    case = Case(mode, steps=2, batch=2, size=8, model=model)
    for name in set(case.contestants) - {"compiled"}:
        speed.built(name, case)()


@pytest.mark.parametrize("model", ["draw", "conv_draw"])
def test_a_row_has_the_columns_of_the_table(model):
    case = Case(model=model)
    line = speed.row(case, {name: ([0.2, 0.4, 0.3], 500.0) for name in case.contestants})
    assert line.count("|") == speed.HEAD.splitlines()[0].count("|")
    assert line.count("| 0.300 ") == 5 and line.count("**1.00×**") == 2
    assert line.count("100%") == (2 if model == "draw" else 0)
