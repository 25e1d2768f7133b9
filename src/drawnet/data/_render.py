"""A small renderer: convex solids or voxels, one perspective camera, one light; numpy only.

The world is the unit sphere, z up, which just fits into the image; half the diagonal of an object's
bounding box is the unit.  The camera looks at the origin from DISTANCE c; at azimuth a it is above
(cos a, sin a), so that a chair that faces -y is seen from its left at 0° and from the front at 270°.
Images are supersampled SUPER times in both directions and averaged.

Legend: V views, M side of the supersampled image, S side of the image, P planes of a solid
c r u   unit vectors from the origin to the camera, to the image's right and upwards
X Y     where a ray meets the plane through the origin, along r and u
s       inverse depth, DISTANCE / distance along c: 1 at the origin, larger means nearer
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

DISTANCE = 4.0
HALF = DISTANCE / (DISTANCE**2 - 1) ** 0.5  # of the image's side, in the plane through the origin
SUPER = 3
_NEVER = np.array([0, 0, np.inf], np.float32)[:, None, None, None]  # a, b, d of no plane
LIGHT, AMBIENT = (0.37, 0.62, 0.69), 0.37  # towards the light, along r, u, c


@dataclass(frozen=True, eq=False)
class Solid:
    """The convex body between two polygons with parallel sides, in one colour.

    bottom, top  corners (K, 3), in the same winding order
    colour       albedo 0..1: red, green, blue
    """

    bottom: Floats
    top: Floats
    colour: tuple[float, float, float]

    @cached_property
    def corners(self) -> Floats:
        return np.concatenate([self.bottom, self.top])

    @cached_property
    def planes(self) -> Floats:
        """(P, 4): inside is n x <= k with n = [:, :3] of length one and k = [:, 3]."""
        after = np.roll(self.bottom, -1, 0)
        sides = np.cross(after - self.bottom, self.top - self.bottom)
        ends = np.cross(self.bottom[1] - self.bottom[0], self.bottom[2] - self.bottom[0])
        n = np.concatenate([sides, [ends, ends]])
        n /= np.linalg.norm(n, axis=1, keepdims=True)
        on = np.concatenate([self.bottom, self.bottom[:1], self.top[:1]])
        outwards = ((on - self.corners.mean(0)) * n).sum(1, keepdims=True)
        n = np.where(outwards < 0, -n, n)
        return np.concatenate([n, (on * n).sum(1, keepdims=True)], 1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Surface:
    """Points (N, 3) on a surface with its normals (N, 3), `spacing` apart, in one grey."""

    points: Floats
    normals: Floats
    spacing: float
    grey: float = 0.85


def frustum(
    a: ArrayLike,
    b: ArrayLike,
    e: ArrayLike,
    f: ArrayLike,
    colour: tuple[float, float, float],
    taper: float = 1.0,
    sides: int = 4,
) -> Solid:
    """Return a bar from a to b whose section at a spans ±e and ±f; at b, `taper` times that.

    sides  4: a box; more: a regular polygon, stretched, of about the same extent
    """
    turn = (np.arange(sides) + 0.5) * (2 * np.pi / sides)
    radius = 2**0.5 if sides == 4 else 1.0
    section = radius * (
        np.outer(np.cos(turn), np.asarray(e)) + np.outer(np.sin(turn), np.asarray(f))
    )
    bottom, top = np.asarray(a) + section, np.asarray(b) + taper * section
    return Solid(bottom.astype(np.float32), top.astype(np.float32), colour)


def frames(views: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return c, r, u of views (V, 2), azimuth and elevation in degrees: each (V, 3)."""
    azimuth, elevation = np.radians(np.asarray(views, np.float64)).T
    level = np.zeros_like(azimuth)
    c = np.stack([np.cos(azimuth), np.sin(azimuth), np.tan(elevation)], 1)
    c *= np.cos(elevation)[:, None]
    r = np.stack([-np.sin(azimuth), np.cos(azimuth), level], 1)
    axes: Floats = np.stack([c, r, np.cross(c, r)]).astype(np.float32)
    return axes[0], axes[1], axes[2]


def shade(normals: Floats, axes: tuple[Floats, Floats, Floats]) -> Floats:
    """Apply Lambert's law: normals (N, 3) in each view -> brightness (V, N) in AMBIENT..1."""
    c, r, u = axes
    light = LIGHT[0] * r + LIGHT[1] * u + LIGHT[2] * c
    light = light / np.linalg.norm(light, axis=1, keepdims=True)
    brightness: Floats = AMBIENT + (1 - AMBIENT) * np.maximum(light @ normals.T, 0)
    return brightness


def project(points: Floats, axes: tuple[Floats, Floats, Floats]) -> tuple[Floats, Floats, Floats]:
    """Return X, Y, s of points (N, 3) in each view: each (V, N)."""
    c, r, u = axes
    s = np.float32(1) / (1 - points @ c.T / np.float32(DISTANCE))
    x: Floats = points @ r.T * s
    y: Floats = points @ u.T * s
    return x.T, y.T, s.T


def render_solids(solids: Sequence[Solid], views: ArrayLike, size: int) -> tuple[Bytes, Bytes]:
    """Render solids on white: images (V, 3, size, size) and masks 0/1 (V, size, size), uint8."""
    axes, m = frames(views), SUPER * size
    count = len(axes[0])
    depth = np.zeros((count, m, m), np.float32)
    light, which = np.ones_like(depth), np.full(depth.shape, len(solids), np.uint8)
    for k, solid in enumerate(solids):
        (top, left), near, bright = _rasterise(solid, axes, m)
        h, w = near.shape[1:]
        for v in range(count):
            there = np.s_[v, top[v] : top[v] + h, left[v] : left[v] + w]
            won = near[v] > depth[there]
            np.copyto(depth[there], near[v], where=won)
            np.copyto(light[there], bright[v], where=won)
            np.copyto(which[there], np.uint8(k), where=won)
    albedo = np.array([*(solid.colour for solid in solids), (1, 1, 1)], np.float32)
    colours = (albedo[:, channel].take(which) * light for channel in range(3))
    picture = np.stack([_averaged(colour, size) for colour in colours], 1)
    return _bytes(picture), _mask(which < len(solids), size)


def _rasterise(
    solid: Solid, axes: tuple[Floats, Floats, Floats], m: int
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Floats, Floats]:
    """Rasterise a solid: top and left (V,) of its box, s in it (V, h, w), 0 outside it; brightness.

    Along a ray, s at a plane is linear in X and Y.  The ray enters the solid at the last plane
    that faces the camera, where s is least, and leaves it at the first of the others.
    """
    (c, r, u), planes = axes, solid.planes
    n, k = planes[:, :3], planes[:, 3]
    gap = k - DISTANCE * c @ n.T  # (V, P), negative where the camera sees the plane from outside
    gap = np.where(np.abs(gap) < 1e-6, np.float32(-1e-6), gap)
    linear = np.stack([r @ n.T, u @ n.T, -DISTANCE * c @ n.T]) / gap  # (3, V, P)
    order = np.argsort(gap, 1)  # those facing the camera come first
    linear = np.take_along_axis(linear, order[None], 2)
    facing = np.take_along_axis(gap, order, 1) < 0
    bright = np.take_along_axis(shade(n, axes), order, 1)

    pixel = 2 * HALF / m
    x, y, _ = project(solid.corners, axes)
    left, width = _span(x / pixel + m / 2, m)
    top, height = _span(m / 2 - y / pixel, m)
    rows, columns = top[:, None] + np.arange(height), left[:, None] + np.arange(width)
    X = ((columns + 0.5 - m / 2) * pixel).astype(np.float32)[:, None, :]
    Y = ((m / 2 - rows - 0.5) * pixel).astype(np.float32)[:, :, None]

    near = np.full((len(c), height, width), np.inf, np.float32)
    lit, far = np.zeros_like(near), np.zeros_like(near)
    for p in range(len(k)):
        face = facing[:, p, None, None]
        if face.any():
            a, b, d = np.where(face, linear[:, :, p, None, None], _NEVER)
            s = a * X + (b * Y + d)
            np.copyto(lit, bright[:, p, None, None], where=s < near)
            np.minimum(near, s, out=near)
        if not face.all():
            a, b, d = np.where(face, np.float32(0), linear[:, :, p, None, None])
            np.maximum(far, a * X + (b * Y + d), out=far)
    near[near <= far] = 0
    return (top, left), near, lit


def _span(positions: Floats, m: int) -> tuple[NDArray[np.int64], int]:
    """Return the first pixel of each view, and one width for all, covering (V, K) within 0 .. m-1."""
    low = np.floor(positions.min(1)).astype(np.int64)
    count = min(m, int((np.ceil(positions.max(1)).astype(np.int64) - low).max()) + 1)
    return low.clip(0, m - count), count


def _averaged(fine: Floats, size: int) -> Floats:
    """Average (V, M, M) to (V, size, size)."""
    step = fine.shape[1] // size
    rows = fine.reshape(-1, size, step, fine.shape[2]).sum(2)
    total = sum((rows[..., k::step] for k in range(1, step)), rows[..., ::step])
    return np.asarray(total / np.float32(step**2))


def _bytes(light: Floats) -> Bytes:
    return np.rint(light * 255).clip(0, 255).astype(np.uint8)


def _mask(covered: NDArray[np.bool_], size: int) -> Bytes:
    """Return 1 where at least half of a pixel is covered."""
    return (_averaged(covered.astype(np.float32), size) >= 0.5).astype(np.uint8)


# ---- voxels -------------------------------------------------------------------------------------

THIN = 0.65


def voxel_surface(voxels: ArrayLike, fine: int, level: float = 0.45) -> Surface:
    """Extract the surface of voxels (N, N, N), axes x y z, where smoothed occupancy is `level`.

    Smoothed by [1 2 1] / 4 along each axis, but no voxel to less than THIN, so that parts one voxel
    thick survive; points are 1 / fine voxels apart.
    """
    full = np.argwhere(voxels)
    first, last = full.min(0), full.max(0) + 1
    radius = float(np.linalg.norm(last - first)) / 2
    solid = _finer(_smoothed(np.pad(np.asarray(voxels, np.float32), 2)), fine)
    inside = solid > level
    edge = np.zeros_like(inside)
    for axis in range(3):
        edge |= ~np.roll(inside, 1, axis) | ~np.roll(inside, -1, axis)
    index = np.argwhere(inside & edge)
    steep = np.stack([_slope(solid, index, axis, fine) for axis in range(3)], 1)
    size = np.linalg.norm(steep, axis=1, keepdims=True)
    normals = -steep / size.clip(1e-6)
    value = solid[tuple(index.T)][:, None]
    out = ((value - level) / size.clip(0.05) * fine).clip(0, 1)  # to the level, in points
    points = ((index + 0.5 + out * normals) / fine - 2 - (first + last) / 2) / radius
    return Surface(points.astype(np.float32), normals.astype(np.float32), 1 / fine / radius)


def _smoothed(voxels: Floats) -> Floats:
    solid = voxels
    for axis in range(3):
        ends = np.roll(solid, 1, axis) + np.roll(solid, -1, axis)
        solid = np.float32(0.25) * (2 * solid + ends)
    thick: Floats = np.maximum(solid, np.float32(THIN) * voxels)
    return thick


def _finer(solid: Floats, fine: int) -> Floats:
    """Resample to `fine` points per voxel along each axis, linear between the voxels' centres."""
    n = len(solid)
    at = ((np.arange(n * fine) + 0.5) / fine - 0.5).clip(0, n - 1)
    low = np.minimum(at.astype(np.int64), n - 2)
    weight = (at - low).astype(np.float32)
    for axis in range(3):
        w = weight.reshape([-1 if a == axis else 1 for a in range(3)])
        solid = solid.take(low, axis) * (1 - w) + solid.take(low + 1, axis) * w
    return solid


def _slope(solid: Floats, index: NDArray[np.int64], axis: int, fine: int) -> Floats:
    """Return the derivative along an axis, per voxel, over one voxel either way."""
    ahead, behind = index.copy(), index.copy()
    ahead[:, axis] += fine
    behind[:, axis] -= fine
    slope: Floats = (solid[tuple(ahead.T)] - solid[tuple(behind.T)]) / 2
    return slope


def render_surface(surface: Surface, views: ArrayLike, size: int) -> tuple[Bytes, Bytes]:
    """Render like `render_solids`, grey: a point facing the camera covers a square, nearest in front."""
    axes, m = frames(views), 2 * size
    pixel = 2 * HALF / m
    eyes = DISTANCE * axes[0]
    x, y, s = project(surface.points, axes)
    bright = shade(surface.normals, axes) * np.float32(surface.grey)
    picture = np.ones((len(eyes), m * m), np.float32)
    covered = np.zeros(picture.shape, bool)
    for v, eye in enumerate(eyes):
        faces = ((eye - surface.points) * surface.normals).sum(1) > 0
        order = np.flatnonzero(faces)
        order = order[np.argsort(s[v, order])]  # the nearest is written last
        side = int(np.ceil(surface.spacing / pixel * s[v].max())) + 1
        left, top = (
            x[v, order] / pixel + (m - side + 1) / 2,
            (m - side + 1) / 2 - y[v, order] / pixel,
        )
        corner = np.floor(top).astype(np.int64) * m + np.floor(left).astype(np.int64)
        square = (np.arange(side)[:, None] * m + np.arange(side)).reshape(-1)
        place = (corner[:, None] + square).clip(0, m * m - 1)
        picture[v][place] = bright[v, order, None]
        covered[v][place] = True
    small = _averaged(picture.reshape(-1, m, m), size)
    return _bytes(small)[:, None], _mask(covered.reshape(-1, m, m), size)
