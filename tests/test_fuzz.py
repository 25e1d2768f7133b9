"""A few of the hostile cases of `make fuzz`: none is at fault."""

import importlib.util

import pytest

pytest.importorskip("hypothesis")
from fuzz.__main__ import run_apart

PARTS = [
    ["picture files", "arrays", "folders", "tables", "tensors of models", "bytes of models"],
    ["words of commands", "flags of commands", "paths", "environments", "requests"],
]
NEEDED = {"requests": "uvicorn", "tables": "pyarrow", "arrays": "scipy"}


@pytest.mark.parametrize("names", PARTS, ids=["files", "commands"])
def test_no_case_is_at_fault(names):
    there = [n for n in names if n not in NEEDED or importlib.util.find_spec(NEEDED[n])]
    for figures in run_apart(there, seed=0, cases=10, seconds=60):
        assert figures.cases >= 10 and not figures.faults, figures
