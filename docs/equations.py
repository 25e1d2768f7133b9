"""Prints docs/equations.md: where each equation of the DRAW paper stands in the code.

The code carries the paper's numbers in brackets; this collects them.  `python docs/equations.py`
"""

import math
import re
from pathlib import Path

from drawnet.nn.attention import LIMIT

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


CLAMPS = {
    "clamp(-LIMIT, LIMIT)": f"log σ², log δ̃ and log γ (21) are held in [-{LIMIT:g}, {LIMIT:g}]: "
    f"factors from {math.exp(-LIMIT):.1e} to {math.exp(LIMIT):,.0f}",
    "clamp(-side, 2 * side)": "filter centres (19)-(20) are held within one longer side around "
    "the image",
    ".softmax(-1)": "each filter (25)-(26) is normalised by a softmax: off the image it reads the "
    "nearest border, and divides by no sum that is 0",
}
"""What the code of the windows adds to the paper's equations, by the line that does it."""


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
    table = "".join(f"| ({n}) | {WHAT[n]} | {', '.join(where)} |\n" for n, where in places.items())
    return head + table + clamps()


def clamps() -> str:
    """The part on what keeps windows finite, of which the paper says nothing."""
    name = "nn/attention.py"
    lines = (PACKAGE / name).read_text(encoding="utf-8").splitlines()
    text = (
        "\n## What keeps windows finite\n\nThe paper does not say what becomes of a window that is "
    )
    text += "extremely narrow, wide or far off.  Here:\n\n"
    for code, what in CLAMPS.items():
        (row,) = (k for k, line in enumerate(lines, 1) if code in line)
        text += f"- {what}: [{name}:{row}](../src/drawnet/{name}#L{row})\n"
    return text


if __name__ == "__main__":
    print(page(), end="")
