"""The notebooks run, shortened, from the first cell to the last, and are kept without outputs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
EXECUTE = """
import sys, nbformat, nbclient
book = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(book, timeout=500, resources={"metadata": {"path": "."}}).execute()
nbformat.write(book, sys.argv[1])
"""
SHORT = {
    "first_hour": {"EXAMPLES": 2_560},
    "own_pictures": {"EXAMPLES": 1_920},
    "latents": {"TRAIN": 1_000, "TEST": 200},
}
"""What replaces the numbers of a notebook's first cell of code."""


def run(path, numbers, folder, **environment):
    """Execute a notebook in a process of its own, with other numbers; what it prints, all cells."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = json.loads(path.read_text(encoding="utf-8"))
    first = next(cell for cell in book["cells"] if cell["cell_type"] == "code")
    first["source"] = [*first["source"], *(f"\n{name} = {n}" for name, n in numbers.items())]
    copy = folder / path.name
    copy.write_text(json.dumps(book), encoding="utf-8")
    words = [sys.executable, "-c", EXECUTE, copy.name]
    done = subprocess.run(
        words, cwd=folder, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = [
        output
        for cell in json.loads(copy.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
    ]
    printed = "".join("".join(output.get("text", "")) for output in outputs)
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    return printed, pictures


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert code and all(not c["outputs"] and c["execution_count"] is None for c in code)
    assert f"`{path.name}`" in (EXAMPLES.parent / "docs" / "notebooks.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    (tmp_path / "none").mkdir()  # without data sets
    printed, pictures = run(path, SHORT[path.stem], tmp_path, DRAWNET_DATA=str(tmp_path / "none"))
    assert pictures >= 1 and "Traceback" not in printed


@pytest.mark.slow
def test_latents_know_the_digits_of_mnist(real_data, tmp_path):
    printed, _ = run(EXAMPLES / "latents.ipynb", {}, tmp_path, DRAWNET_DATA=str(real_data))
    shares = dict(re.findall(r"mnist: (k-NN|linear probe) on latents ([\d.]+) %", printed))
    assert shares.keys() == {"linear probe", "k-NN"}
    assert all(float(share) >= 95 for share in shares.values()), printed
