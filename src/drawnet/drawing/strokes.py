"""Strokes: the path of the write window as an SVG, which a plotter can draw.

n  images   T  steps   H, W  rows and columns of an image; a pixel is a millimetre
"""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from drawnet.drawing.figures import Trajectory
from drawnet.errors import UserError
from drawnet.models.base import Model

GAP = 4
"""Millimetres between the images, and around them."""
FAINT = 0.2
"""Opacity below which the pen is up."""


def check(path: Path, model: Model) -> None:
    """Raise UserError for an .svg of a model that writes through no window."""
    if path.suffix.lower() == ".svg" and not getattr(model.config, "write", 0):
        raise UserError(
            f"{path}: strokes are the path of a write window, and this model has none; .png shows it"
        )


def strokes(trajectory: Trajectory) -> Tensor:
    """Return x, y, width (pixels) and opacity (0 to 1) of every step's point, (T, n, 4).

    (x, y) is the centre of the write window.  The width is that of a filter, 2 σ, and at most the
    window's side (N - 1) δ.  The opacity is the ink of the step that stays, Σ max(0, Δ mean) · final
    mean in pixels, hence of γ and the patch; one pixel is opaque.
    """
    x, y, side, sigma = trajectory.windows["write"].unbind(-1)
    added = trajectory.frames.diff(dim=0).clamp_min(0)
    ink = (added * trajectory.images).flatten(2).sum(2)
    return torch.stack((x, y, torch.minimum(2 * sigma, side), ink.clamp_max(1)), -1)


def svg(trajectory: Trajectory) -> str:
    """Draw the images of a trajectory as strokes, in a nearly square grid; black, in millimetres."""
    n, (height, width) = trajectory.frames.shape[1], trajectory.frames.shape[-2:]
    columns = math.ceil(math.sqrt(n))
    size = (columns * (width + GAP) + GAP, -(-n // columns) * (height + GAP) + GAP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" '
        f'width="{size[0]}mm" height="{size[1]}mm" fill="none" stroke="#000" stroke-linecap="round">'
    ]
    for k, points in enumerate(strokes(trajectory).unbind(1)):
        left, top = (GAP + at * (side + GAP) for at, side in zip(
            (k % columns, k // columns), (width, height), strict=True))  # fmt: skip
        lines += [f'<g transform="translate({left} {top})">', *_paths(points), "</g>"]
    return "\n".join([*lines, "</svg>", ""])


def _paths(points: Tensor) -> Iterator[str]:
    """Yield a path from point to point where the pen is down, and a dot where it comes down."""
    before = None
    for x, y, width, opacity in points.tolist():
        here = f"{x - 0.5:.2f} {y - 0.5:.2f}"  # pixels are counted from 1, and this is their middle
        if opacity < FAINT:
            before = None
            continue
        yield (
            f'<path d="M{before or here}L{here}" stroke-width="{width:.2f}" '
            f'stroke-opacity="{opacity:.2f}"/>'
        )
        before = here
