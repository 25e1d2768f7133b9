"""Chairs for a generator conditioned on style and view: masks, views held out, and baselines.

Dosovitskiy, Springenberg, Brox 2015, section 5.  The images are those of data/chairs.py.

Legend: N models (styles), V = 62 views
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drawnet.data import Dataset, Images, Info, _render
from drawnet.data.chairs import AZIMUTHS, ELEVATIONS, VIEWS, Bytes, renderings
from drawnet.data.chairs import INFO as CHAIRS
from drawnet.errors import UserError

Known = NDArray[np.bool_]

INFO = Info(
    name="chair_views",
    description="the chairs of `chairs` with their masks, every other azimuth held out",
    licence=CHAIRS.licence,
    source=CHAIRS.source,
)


def load(
    data_dir: Path,
    which: str = "procedural",
    models: int = 0,
    size: int = 0,
    channels: int = 0,
    seed: int = 0,
    held: str = "views",
) -> Dataset:
    """Load views with the mask, 0 or 255, as the last channel; labels 62 · model + view.

    held  'views' or 'styles': train is what `views_held_out` or `styles_held_out` leaves; the others
          go alternately to valid and test
    Other arguments as for `chairs.renderings`.
    """
    if held not in HELD_OUT:
        raise UserError(f"chair_views: held is {held!r}: choose 'views' or 'styles'")
    chairs = renderings(data_dir, which, models, size, channels, seed)
    seen = HELD_OUT[held](len(chairs.masks)).flatten()
    if (~seen).sum() < 2:
        raise UserError(
            f"chair_views: too few models to hold {held} out: choose more than {len(seen) // 62}"
        )
    numbers = {"train": np.flatnonzero(seen)}
    numbers["valid"], numbers["test"] = np.flatnonzero(~seen)[::2], np.flatnonzero(~seen)[1::2]
    pictures, masks = (part.reshape(-1, *part.shape[2:]) for part in (chairs.sprites, chairs.masks))
    splits = {
        split: Images(np.concatenate([pictures[k], 255 * masks[k][:, None]], 1), k)
        for split, k in numbers.items()
    }
    name = f"{chairs.name.replace(CHAIRS.name, INFO.name, 1)}, {held} held out"
    return INFO.dataset(256, splits, name=name, description=chairs.description)


# ---- what is held out ---------------------------------------------------------------------------


def views_held_out(models: int, every: int = 2) -> Known:
    """Return the training views (models, 62): every `every`-th azimuth, from 0 on."""
    azimuth = np.arange(len(VIEWS)) % AZIMUTHS
    return np.tile(azimuth % every == 0, (models, 1))


def styles_held_out(models: int, every: int = 5, elevation: int = 30) -> Known:
    """Return the training views (models, 62): all, except this elevation of every `every`-th model.

    The transfer experiment: at that elevation, training sees only the other chairs.
    """
    if elevation not in ELEVATIONS:
        raise ValueError(f"elevation {elevation} is not one of {ELEVATIONS}")
    held = np.arange(models) % every == every - 1
    seen: Known = ~(held[:, None] & (VIEWS[:, 1] == elevation))
    return seen


HELD_OUT = {"views": views_held_out, "styles": styles_held_out}
"""Values of `held`."""

# ---- baselines ----------------------------------------------------------------------------------


def nearest_view(views: NDArray[np.float64], known: Known) -> NDArray[np.int64]:
    """Return, for each view (V,), the known one at the smallest angle, the first of equals."""
    c = _render.frames(views)[0].astype(np.float64)
    closeness = np.where(known, np.round(c @ c.T, 6), -2)
    return np.asarray(closeness.argmax(1))


def neighbours(
    views: NDArray[np.float64], known: Known
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return, for each view, the next known views below and above in azimuth, and above's weight.

    At its own elevation or, if nothing is known there, at the nearest that has known views. Azimuth is
    cyclic, weights are linear in it; a known view is its own neighbour.
    """
    below, above = np.zeros((2, len(views)), np.int64)
    weight = np.zeros(len(views))
    for v, (azimuth, elevation) in enumerate(views):
        rise = np.where(known, np.abs(views[:, 1] - elevation), np.inf)
        level = np.flatnonzero(known & (rise == rise.min()))
        ahead = np.round(views[level, 0] - azimuth, 6) % 360
        behind = -np.round(views[level, 0] - azimuth, 6) % 360
        below[v], above[v] = level[behind.argmin()], level[ahead.argmin()]
        gap = ahead.min() + behind.min()
        weight[v] = behind.min() / gap if gap else 0
    return below, above, weight


def nearest(images: Bytes, views: NDArray[np.float64], known: Known) -> NDArray[np.float32]:
    """Baseline: predict each unknown view by the nearest known one.

    images  (N, V, …) and known (V,) -> (N, unknown views, …)
    """
    return images[:, nearest_view(views, known)[~known]].astype(np.float32)


def blend(images: Bytes, views: NDArray[np.float64], known: Known) -> NDArray[np.float32]:
    """Baseline: predict each unknown view by the pixelwise blend of its two neighbours.

    images  (N, V, …) and known (V,) -> (N, unknown views, …)
    """
    below, above, weight = (part[~known] for part in neighbours(views, known))
    w = weight.astype(np.float32).reshape(-1, *(1 for _ in images.shape[2:]))
    return (1 - w) * images[:, below] + w * images[:, above]
