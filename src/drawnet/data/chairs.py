"""Chairs at 31 azimuths × 2 elevations with masks, as in Dosovitskiy, Springenberg, Brox 2015.

The paper uses renderings by Aubry et al. (2014).  Here they are replaced by parametric chairs, made
from a seed, or by chairs of ModelNet10, if their files are present.  The name says which.

Legend: N models (styles), V = 62 views, C channels, S side of an image
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drawnet.data import Dataset, Images, Info, _parametric, _render, default_dir
from drawnet.data._render import render_solids, render_surface, voxel_surface
from drawnet.data._scattered import check
from drawnet.data.io.cache import cached
from drawnet.data.io.files import array, find_file, read_npz, read_parquet, sha256
from drawnet.data.io.pictures import stacked
from drawnet.errors import UserError

Bytes = NDArray[np.uint8]

AZIMUTHS, ELEVATIONS = 31, (20, 30)
VIEWS = np.array([(k * 360 / AZIMUTHS, e) for e in ELEVATIONS for k in range(AZIMUTHS)])
_SIDE, _MODELS = 64, 320
_CHOICE = "choose which='procedural', 'renders' or 'voxels'"

INFO = Info(
    name="chairs",
    description="chairs at 31 azimuths and 2 elevations, colour 64x64: procedural ones, made here; "
    "with which='renders' or 'voxels' ModelNet10's, grey",
    licence="made by drawnet; those of ModelNet10: for academic research",
    source="made as in Dosovitskiy, Springenberg, Brox 2015, Learning to generate chairs, whose "
    "renderings are Aubry et al.'s (2014); ModelNet10: Wu et al. 2015, "
    "http://3dvision.princeton.edu/projects/2014/3DShapeNets/",
)


@dataclass(frozen=True, eq=False)
class Chairs:
    """All renderings of all models, memory-mapped.

    sprites  uint8 (N, V, C, S, S), on white
    masks    uint8 (N, V, S, S), 1 where the chair is
    views    (V, 2) azimuth and elevation in degrees
    """

    name: str
    description: str
    sprites: Bytes = field(repr=False)
    masks: Bytes = field(repr=False)
    views: NDArray[np.float64] = field(repr=False)


def load(
    data_dir: Path,
    which: str = "procedural",
    models: int = 0,
    size: int = 0,
    channels: int = 0,
    seed: int = 0,
) -> Dataset:
    """Load all views as images of 256 levels; a tenth of the models each is valid and test.

    Labels 0..61: the view.  Arguments as for `renderings`.
    """
    chairs = renderings(data_dir, which, models, size, channels, seed)
    n, v = chairs.masks.shape[:2]
    if n < 3:
        raise UserError(f"chairs: {n} models cannot be split in three: choose models=3 or more")
    whole = Images(chairs.sprites.reshape(n * v, *chairs.sprites.shape[2:]), np.arange(n * v) % v)
    tenth = max(1, n // 10)
    end, middle = (n - 2 * tenth) * v, (n - tenth) * v
    splits = {"train": whole[:end], "valid": whole[end:middle], "test": whole[middle:]}
    return INFO.dataset(256, splits, name=chairs.name, description=chairs.description)


def renderings(
    data_dir: Path | None = None,
    which: str = "procedural",
    models: int = 0,
    size: int = 0,
    channels: int = 0,
    seed: int = 0,
) -> Chairs:
    """Return chairs of one of three kinds; they are rendered once and then cached.

    procedural  parametric chairs, 0.1 s each at 64×64: the first `models` (0: 320) of this seed
    renders     renderings of 320 models of ModelNet10, as they are: chairs_renders.parquet, columns
                `model`, `sprite`, `mask`, each image the 62 views stacked vertically
    voxels      the distinct models of ModelNet10 at 32³ in chairs_voxels.npz (`voxels`, bits, and
                `shape`), rendered here, 0.3 s each
    size        side of an image; 0: 64
    channels    3: red, green, blue; 1: grey; 0: 3 if procedural, else 1, the only choice there
    """
    own = {"procedural": 3, "renders": 1, "voxels": 1}
    if which not in own:
        raise UserError(f"chairs has no {which!r}: {_CHOICE}")
    check(
        "chairs", models=(models, 0, None), size=(size, 0, 512), channels=(channels, 0, 3),
        seed=(seed, 0, None),
    )  # fmt: skip
    channels, size = channels or own[which], size or _SIDE
    if channels == 2 or channels > own[which] or (which == "renders" and size != _SIDE):
        raise UserError(
            f"chairs: {which} cannot be {channels} channels at {size}x{size}: leave size and "
            "channels out"
        )
    data_dir = data_dir or default_dir()
    if which == "procedural":
        return _procedural(models or _MODELS, size, channels, seed)
    return _renders(data_dir, models) if which == "renders" else _voxels(data_dir, models, size)


def encoded(views: NDArray[np.float64]) -> NDArray[np.float32]:
    """Encode views (…, 2) in degrees as the paper does: sin and cos of azimuth and elevation, (…, 4)."""
    angles = np.radians(views)
    pairs = np.stack([np.sin(angles), np.cos(angles)], -1)
    return pairs.reshape(*views.shape[:-1], 4).astype(np.float32)


# ---- the three kinds ----------------------------------------------------------------------------


def _procedural(models: int, size: int, channels: int, seed: int) -> Chairs:
    def make() -> tuple[Bytes, Bytes]:
        return _rendered(
            models, size, channels, lambda n: render_solids(_parametric.chair(seed, n), VIEWS, size)
        )

    kind = f"procedural, {models} parametric models, seed {seed}"
    code = [sha256(Path(str(module.__file__))) for module in (_render, _parametric)]
    return _chairs(kind, [], make, kind, size, channels, *code)


def _renders(data_dir: Path, models: int) -> Chairs:
    path = _file(data_dir, "chairs_renders.parquet")

    def make() -> tuple[Bytes, Bytes]:
        columns, shape = read_parquet(path, "sprite", "mask"), (1, len(VIEWS) * _SIDE, _SIDE)
        sprites, masks = (stacked(columns[key], shape, path) for key in ("sprite", "mask"))
        views = (-1, len(VIEWS), 1, _SIDE, _SIDE)
        return sprites.reshape(views), (masks >= 128).astype(np.uint8).reshape(views)[:, :, 0]

    whole = _chairs("renderings of ModelNet10's models, as given", [path], make)
    there = len(whole.masks)
    if (count := _count(models, there)) == there:
        return whole
    name = f"{whole.name}, the first {count} of {there}"
    description = whole.description.replace(f"{there} chairs", f"{count} chairs", 1)
    return Chairs(name, description, whole.sprites[:count], whole.masks[:count], VIEWS)


def _voxels(data_dir: Path, models: int, size: int) -> Chairs:
    path = _file(data_dir, "chairs_voxels.npz")
    chairs = read_voxels(path)
    count = _count(models, len(chairs))

    def render(n: int) -> tuple[Bytes, Bytes]:
        fine = -(-size * 3 // _SIDE)  # points spaced like supersampled pixels
        return render_surface(voxel_surface(chairs[n], fine), VIEWS, size)

    def make() -> tuple[Bytes, Bytes]:
        return _rendered(count, size, 1, render)

    kind = f"{count} of {len(chairs)} models of ModelNet10, from voxels"
    return _chairs(kind, [path], make, kind, size, sha256(Path(str(_render.__file__))))


def read_voxels(path: Path) -> Bytes:
    """Read the distinct models of a voxel file, in its order, none empty: (N, X, Y, Z) of 0 and 1."""
    arrays = read_npz(path)
    bits = array(arrays, "voxels", (-1, 32, 32, 4), path)
    voxels = np.unpackbits(bits, axis=-1)
    first = np.unique(bits.reshape(len(bits), -1), axis=0, return_index=True)[1]
    if not len(bits) or not voxels.any((1, 2, 3)).all():
        raise UserError(f"{path} has no chairs, or one without voxels: get a new copy")
    return voxels[np.sort(first)]


def _file(data_dir: Path, name: str) -> Path:
    if path := find_file(data_dir, INFO.name, name):
        return path
    raise UserError(
        f"chairs: no {name} in {data_dir} or {data_dir / INFO.name}: set --data-dir or DRAWNET_DATA "
        "to the folder that has it, or choose which='procedural', which needs no file"
    )


def _rendered(
    models: int, size: int, channels: int, render: Callable[[int], tuple[Bytes, Bytes]]
) -> tuple[Bytes, Bytes]:
    sprites = np.empty((models, len(VIEWS), channels, size, size), np.uint8)
    masks = np.empty((models, len(VIEWS), size, size), np.uint8)
    for n in range(models):
        colours, masks[n] = render(n)
        sprites[n] = colours if colours.shape[1] == channels else grey(colours)
    return sprites, masks


def grey(colours: Bytes) -> Bytes:
    """Convert colours (V, 3, S, S) to ITU-R 601 luma, (V, 1, S, S)."""
    luma = np.array([0.299, 0.587, 0.114], np.float32)
    light = np.einsum("vcij,c->vij", colours, luma)
    return np.asarray(np.rint(light).astype(np.uint8)[:, None])


def _chairs(
    kind: str, sources: list[Path], make: Callable[[], tuple[Bytes, Bytes]], *settings: str | int
) -> Chairs:
    """Return sprites and masks, cached in two files; both are rendered together."""
    once = cache(make)

    def part(k: int) -> Bytes:
        whole = once()[k]
        return whole.reshape(-1, *((1,) if k else ()), *whole.shape[2:])

    sprites = cached(sources, lambda: Images(part(0)), "sprites", *settings, name="chairs").pixels[
        :
    ]
    masks = cached(
        sources, lambda: Images(part(1)), "masks", *settings, name="chairs-masks"
    ).pixels[:]
    v, shape = len(VIEWS), sprites.shape[1:]
    models = sprites.reshape(-1, v, *shape)
    colour = "colour" if shape[0] == 3 else "grey"
    name, count = f"chairs, {kind}", f"{len(models)} chairs × {v} views"
    description = f"{count}, {colour} {shape[1]}x{shape[2]}: {kind}; not Aubry et al.'s"
    return Chairs(name, description, models, masks.reshape(-1, v, *shape[1:]), VIEWS)


def _count(asked: int, there: int) -> int:
    if asked > there:
        raise UserError(f"chairs: models={asked}, but there are {there}: choose fewer")
    return asked or there
