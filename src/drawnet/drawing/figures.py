"""Figures: grids of images, animations of trajectories with their windows, nearest neighbours.

    n  images      C  channels, 1 grey or 3 colour      H, W  rows and columns of an image
    T  steps       cells  images enlarged to screen pixels, (n, h, w, C) uint8

Images are float in [0, 1] or uint8, (n, C, H, W); a picture is a `PIL.Image.Image` (`files` writes
it).  Pixels are enlarged by whole numbers and never smoothed.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from drawnet.errors import UserError
from drawnet.models.base import Model
from drawnet.models.sequential import StepModel
from drawnet.nn import attention

Array = npt.NDArray[Any]
Images = Tensor | Array
"""Images (n, C, H, W): float in [0, 1] or uint8, 255 being white."""

COLOURS = {"read": (50, 150, 255), "write": (235, 50, 35)}
"""Blue for read windows; red for write windows, as in the paper: distinct with any colour vision."""
SHADE = 0.4
"""Darkness of the shadow, one screen pixel wide, that separates the lines from colour images."""
GAP = 88
"""Grey between the cells: distinct from black and from white."""
MAX_WIDTH = 1280
"""Maximum width of a grid in screen pixels, unless its images at their own size are wider."""


class Trajectory(NamedTuple):
    """The steps of a drawing."""

    frames: Tensor
    """Mean of the pixels before the first step and after each, (T+1, n, C, H, W) in [0, 1]."""
    windows: dict[str, Tensor]
    """'read', 'write': centre x, centre y, side (N - 1)δ and σ in pixels, (T, n, 4).

    x counts columns and y rows, both from 1 as in the paper.  The side is that of the square
    spanned by the N × N filter centres; σ gives the width of each filter."""

    @property
    def images(self) -> Tensor:
        """The final images, (n, C, H, W)."""
        return self.frames[-1]


@torch.no_grad()
def trajectory(model: StepModel, states: Iterable[Any], start: Any = None) -> Trajectory:
    """Collect the states that `sequential.generate` or `sequential.reconstruct` yields.

    start: the state before the first of them; None for `model.start`.  A window whose parameters
    are exactly zero at every step was not used (nothing is read in generation) and is left out.
    """
    frames, raw = [], []
    for state in states:
        frames.append(mean(model, state))
        raw.append({name: p.float().cpu() for name, p in model.windows(state).items()})
    first = mean(model, model.start(state.y) if start is None else start)
    steps = {name: torch.stack([step[name] for step in raw]) for name in raw[0]}
    windows = {name: geometry(model, name, p) for name, p in steps.items() if p.any()}
    return Trajectory(torch.stack([first, *frames]), windows)


def joined(trajectories: Sequence[Trajectory]) -> Trajectory:
    """Concatenate the trajectories of several batches along n."""
    frames = torch.cat([part.frames for part in trajectories], 1)
    shared = [
        name
        for name in trajectories[0].windows
        if all(name in part.windows for part in trajectories)
    ]
    windows = {name: torch.cat([part.windows[name] for part in trajectories], 1) for name in shared}
    return Trajectory(frames, windows)


def mean(model: StepModel, state: Any) -> Tensor:
    """Return the mean image of a state, (n, C, H, W) on the CPU."""
    return model.likelihood(state).mean.float().clamp(0, 1).cpu()


def geometry(model: Model, name: str, parameters: Tensor) -> Tensor:
    """Convert raw (…, 5) to centre x, centre y, side, σ in pixels, (…, 4).   DRAW (21)-(24)"""
    config: Any = model.config
    n = getattr(config, name)
    w = attention.window(parameters, n, *model.shape[1:])
    return torch.stack((w.g_x, w.g_y, (n - 1) * w.delta, w.sigma2.sqrt()), -1)


def grid(
    images: Images, columns: int | None = None, scale: int | None = None, gap: int = 2
) -> Image.Image:
    """Arrange images in a grid, row by row; nearly square if columns is None.

    scale: screen pixels per pixel, None for a comfortable size (28 pixels: 4).
    gap: screen pixels between the cells; there are none around the grid.
    """
    whole = Grid(len(images), images.shape[1:], columns, scale, gap)
    whole.add(images)
    return whole.picture()


class Grid:
    """A grid of n images (C, H, W) that come in batches: a byte per screen pixel and channel."""

    def __init__(
        self,
        n: int,
        shape: Sequence[int],
        columns: int | None = None,
        scale: int | None = None,
        gap: int = 2,
    ) -> None:
        self.columns, self.scale = _layout(n, shape, columns, scale)
        self.gap, self.count = gap, 0
        self.sides = [self.scale * side for side in shape[1:]]
        height, width = (side + gap for side in self.sides)
        rows = math.ceil(n / self.columns)
        self.cells = np.full((rows, height, self.columns, width, shape[0]), GAP, np.uint8)

    def add(self, images: Images) -> None:
        """Put further images into the next cells."""
        (h, w), k = self.sides, np.arange(self.count, self.count + len(images))
        self.cells[k // self.columns, :h, k % self.columns, :w] = _enlarged(images, self.scale)
        self.count += len(images)

    def picture(self) -> Image.Image:
        """Return the grid, without a gap around it."""
        rows, height, columns, width, depth = self.cells.shape
        screen = self.cells.reshape(rows * height, columns * width, depth)
        return _picture(screen[: rows * height - self.gap, : columns * width - self.gap])


def singles(images: Images) -> list[Image.Image]:
    """Return each image as a picture of its own, at its own size."""
    return [_picture(cell) for cell in _enlarged(images, 1)]


def stages(
    trajectory: Trajectory, rows: int = 8, columns: int = 10, scale: int | None = None
) -> Image.Image:
    """Show successive steps as in the paper's figure 1: a row per image, the write window in red.

    The steps shown are evenly spaced; the first and the last are always included.
    """
    steps, n = len(trajectory.frames) - 1, min(rows, trajectory.frames.shape[1])
    shown = torch.linspace(0, steps - 1, min(columns, steps)).round().long()
    parts = {"canvas": trajectory.frames[1:], **trajectory.windows}
    rowwise = {name: part[shown, :n].transpose(0, 1).flatten(0, 1) for name, part in parts.items()}
    columns, scale = _layout(n * len(shown), trajectory.images.shape[1:], len(shown), scale)
    cells = _annotated(rowwise.pop("canvas"), rowwise, scale, ("write",))
    return _picture(_tiled(cells, columns, 0))


def drawing(
    trajectory: Trajectory, columns: int | None = None, scale: int | None = None
) -> list[Image.Image]:
    """Return the frames of an animation, all n images in one grid.

    The start, the T steps with their windows (write red, read blue), and the final images without
    windows: T + 2 pictures.  `_outlined` describes the lines.
    """
    columns, scale = _layout(
        len(trajectory.images), trajectory.images.shape[1:], columns, scale, cell=224
    )
    return [
        _picture(_tiled(_annotated(canvas, windows, scale), columns, 0))
        for canvas, windows in _moments(trajectory)
    ]


def comparison(
    inputs: Images, trajectory: Trajectory, columns: int | None = None, scale: int | None = None
) -> list[Image.Image]:
    """Return a reconstruction as an animation: input with read window | canvas with write window.

    Frames as in `drawing`; the last one, without windows, serves as the still picture.
    """
    columns, scale = _layout(
        len(inputs), trajectory.images.shape[1:], columns, scale, cell=224, group=2
    )
    frames = []
    for canvas, windows in _moments(trajectory):
        sides = (inputs, "read"), (canvas, "write")
        pair = [_annotated(images, windows, scale, (name,)) for images, name in sides]
        frames.append(_picture(_tiled(np.concatenate(pair, 2), columns, 0, aside=4 * scale)))
    return frames


def _moments(trajectory: Trajectory) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Return canvas and windows at the start, after every step, and the final canvas alone."""
    steps = [
        (canvas, {name: w[t] for name, w in trajectory.windows.items()})
        for t, canvas in enumerate(trajectory.frames[1:])
    ]
    return [(trajectory.frames[0], {}), *steps, (trajectory.images, {})]


class Neighbours(NamedTuple):
    """The nearest training image of every sample."""

    place: Tensor
    """Its index in the training set, (n,)."""
    distance: Tensor
    """Squared Euclidean distance on pixels in [0, 1], (n,)."""
    images: Tensor
    """The image, (n, C, H, W) float."""


def neighbours(samples: Images, train: Images) -> Neighbours:
    """Find nearest training images by ‖s - x‖² = ‖s‖² - 2 s·x + ‖x‖², in chunks of bounded memory."""
    s = _unit(samples).flatten(1)
    best, place = torch.full((len(s),), math.inf), torch.zeros(len(s), dtype=torch.long)
    chunk = max(1, min(4096, 2**24 // max(1, len(s))))
    for first in range(0, len(train), chunk):
        x = _unit(train[first : first + chunk]).flatten(1)
        distance, i = torch.addmm((x**2).sum(1), s, x.T, alpha=-2).min(1)
        place = torch.where(distance < best, first + i, place)
        best = torch.minimum(distance, best)
    nearest = _unit(train[place])
    return Neighbours(place, ((s - nearest.flatten(1)) ** 2).sum(1), nearest)


def side_by_side(
    left: Images, right: Images, columns: int | None = None, scale: int | None = None
) -> Image.Image:
    """End each row of k = len(left) / len(right) left images with a right one, set apart.

    k = 1 shows pairs.  The paper's figure 6 shows samples with their nearest neighbours:
    `side_by_side(samples, neighbours(samples[k - 1 :: k], train).images)`.
    columns: such rows side by side, nearly square if None.
    """
    rows = len(right)
    k, rest = divmod(len(left), max(rows, 1))
    if rest:
        raise UserError(f"{len(left)} images do not divide into {rows} equal rows: use {k * rows}")
    columns, scale = _layout(rows, left.shape[1:], columns, scale, group=k + 1)
    ends = _enlarged(right, scale)
    space = np.full((ends.shape[1], 4, ends.shape[3]), GAP, np.uint8)
    groups = _enlarged(left, scale).reshape(rows, k, *ends.shape[1:])
    closed = [
        np.concatenate((_tiled(group, k, 2), space, end), 1)
        for group, end in zip(groups, ends, strict=True)
    ]
    return _picture(_tiled(np.stack(closed), columns, 2, aside=12))


def _layout(
    n: int,
    shape: Sequence[int],
    columns: int | None,
    scale: int | None,
    cell: int = 128,
    group: int = 1,
) -> tuple[int, int]:
    """Return the columns of a nearly square grid of n groups of `group` images, and the enlargement.

    The enlargement keeps an image within `cell` screen pixels and a row within MAX_WIDTH.
    """
    if n == 0:
        raise UserError("no images to show: request at least one")
    height, width = shape[1:]
    columns = min(n, columns or math.ceil(math.sqrt(n * height / (group * width))))
    room = min(cell, MAX_WIDTH // (columns * group))
    return columns, scale or max(1, room // max(height, width))


def _unit(images: Images) -> Tensor:
    """Convert to float in [0, 1], on the CPU."""
    images = images.detach().cpu() if isinstance(images, Tensor) else torch.tensor(images)
    return images.float() if images.is_floating_point() else images.float() / 255


def _enlarged(images: Images, scale: int) -> Array:
    """Convert images to cells (n, H·scale, W·scale, C) uint8, each pixel a square."""
    pixels = _unit(images)
    if pixels.shape[1] not in (1, 3):
        raise UserError(f"cannot show {pixels.shape[1]} channels: choose 1 (grey) or 3 (colour)")
    if pixels.isnan().any():
        raise UserError("cannot show NaN: the model has diverged, use an earlier checkpoint")
    levels = (pixels.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
    return levels.repeat_interleave(scale, 1).repeat_interleave(scale, 2).numpy()


def _tiled(cells: Array, columns: int, gap: int, aside: int | None = None) -> Array:
    """Arrange cells row by row: (h', w', C), `gap` apart (horizontally `aside`)."""
    aside = gap if aside is None else aside
    rows = math.ceil(len(cells) / columns)
    padding = (0, rows * columns - len(cells)), (0, gap), (0, aside), (0, 0)
    cells = np.pad(cells, padding, constant_values=GAP)
    _, h, w, depth = cells.shape
    tiles = cells.reshape(rows, columns, h, w, depth).swapaxes(1, 2)
    return tiles.reshape(rows * h, columns * w, depth)[: rows * h - gap, : columns * w - aside]


def _picture(image: Array) -> Image.Image:
    """Convert (h, w, C) to a grey or colour picture."""
    return Image.fromarray(np.ascontiguousarray(image[:, :, 0] if image.shape[2] == 1 else image))


def _annotated(
    images: Images, windows: dict[str, Tensor], scale: int, shown: Sequence[str] = tuple(COLOURS)
) -> Array:
    """Return enlarged colour cells with a margin, and the windows (n, 4) of one step drawn on them."""
    cells = _enlarged(images, scale)
    margin = max(2, round(max(cells.shape[1:3]) / 24))
    around = (0, 0), (margin, margin), (margin, margin), (0, 0)
    cells = np.pad(cells, around, constant_values=GAP).repeat(3 // cells.shape[3], 3)
    for name in shown:
        if name in windows:
            cells = _outlined(cells, windows[name].numpy(), COLOURS[name], scale, margin)
    return cells


def _outlined(
    cells: Array, windows: Array, colour: tuple[int, int, int], scale: int, margin: int
) -> Array:
    """Draw windows (n, 4) as squares: the sharper a window's filters, the thicker its lines.

    A square runs along the outer edges of the pixels on which the outermost filters are centred.
    Line width = margin / (1 + σ), at least one screen pixel: thin is wide and blurry, thick is
    sharp.  An edge outside the image is drawn in the margin: the window extends beyond.
    """
    centre, side, sigma = windows[:, 1::-1].T, windows[:, 2], windows[:, 3]
    half = np.maximum(margin / (1 + sigma), 1) / 2
    pixels = [np.arange(size, dtype=np.float32) for size in cells.shape[1:3]]
    room = np.array([[len(pixel)] for pixel in pixels], np.float32) - margin / 2
    low, high = (
        (margin + scale * (centre - 0.5 + reach)).clip(margin / 2, room)
        for reach in (-(side + 1) / 2, (side + 1) / 2)
    )
    halo, outer, inner, core = (
        _square(low - grow, high + grow, pixels) for grow in (half + 1, half, -half, -half - 1)
    )
    line, shade = outer - inner, SHADE * (halo - core)
    drawn: Array = cells * (1 - shade) * (1 - line) + np.array(colour, np.float32) * line
    return drawn.round().astype(np.uint8)


def _square(low: Array, high: Array, pixels: Sequence[Array]) -> Array:
    """Return the share of every screen pixel within [low, high], each (2, n) (y, x) -> (n, h, w, 1)."""
    rows, columns = (
        (np.minimum(far, pixel + 1) - np.maximum(near, pixel)).clip(0, 1)
        for near, far, pixel in zip(low[..., None], high[..., None], pixels, strict=True)
    )
    return np.asarray(rows[:, :, None, None] * columns[:, None, :, None])
