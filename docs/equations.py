"""Prints docs/equations.md: where each equation of the DRAW paper stands in the code.

The code carries the paper's numbers in brackets; this collects them.  `python docs/equations.py`
"""

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "drawnet"
FILES = (
    "models/draw.py",
    "models/canvas.py",
    "nn/attention.py",
    "nn/distributions.py",
    "models/sequential.py",
)
WHAT = {
    1: "mean of q(z_t)", 2: "standard deviation of q(z_t)", 3: "error image",
    4: "read", 5: "encoder", 6: "sample z_t", 7: "decoder", 8: "canvas",
    9: "reconstruction loss (distortion)", 10: "latent loss (rate)", 11: "its Gaussian form",
    12: "the bound", 13: "sample from the prior", 14: "decoder, generating",
    15: "canvas, generating", 16: "pixels, generating", 17: "read without attention",
    18: "write without attention", 19: "filter centres, columns", 20: "filter centres, rows",
    21: "window parameters", 22: "centre, column", 23: "centre, row", 24: "stride",
    25: "filterbank, columns", 26: "filterbank, rows", 27: "read with attention",
    28: "patch", 29: "write with attention",
}  # fmt: skip


def numbers(line: str) -> set[int]:
    """Equation numbers that a line of code carries: '# (3)', '…   (19)-(20)', 'DRAW (9)'."""
    tail = re.search(r"(?:# |\.   |DRAW |, |\.  )(\(\d+\)(?:(?:-|, )\(\d+\))*)(?:\"\"\")?$", line)
    found: set[int] = set()
    for first, last in re.findall(r"\((\d+)\)(?:-\((\d+)\))?", tail[1] if tail else ""):
        found |= set(range(int(first), int(last or first) + 1))
    return found & set(WHAT)


def page() -> str:
    """The page, as Markdown."""
    places: dict[int, list[str]] = {n: [] for n in WHAT}
    for name in FILES:
        for row, line in enumerate((PACKAGE / name).read_text(encoding="utf-8").splitlines(), 1):
            for n in numbers(line):
                places[n].append(f"[{name}:{row}](../src/drawnet/{name}#L{row})")
    head = (
        "# Equations and lines\n\nWhere each equation of Gregor et al. 2015 (arXiv 1502.04623) stands."
        "  Written by `python docs/equations.py`.\n\n| equation | what | where |\n|---|---|---|\n"
    )
    return head + "".join(
        f"| ({n}) | {WHAT[n]} | {', '.join(where)} |\n" for n, where in places.items()
    )


if __name__ == "__main__":
    print(page(), end="")
