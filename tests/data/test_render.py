"""The renderer against what is known without it: extents, silhouettes, order in depth, light."""

import numpy as np
import pytest

from drawnet.data import _parametric, _render
from drawnet.data._render import DISTANCE, HALF, Solid, frames, frustum, render_solids

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def box(centre, half, colour=RED) -> Solid:
    (x, y, z), (dx, dy, dz) = centre, half
    return frustum((x, y, z - dz), (x, y, z + dz), (dx, 0, 0), (0, dy, 0), colour)


def test_axes():
    c, r, u = (axis[0] for axis in frames([(270, 30)]))
    assert c == pytest.approx([0, -(0.75**0.5), 0.5], abs=1e-6), "in front of a chair"
    assert r == pytest.approx([1, 0, 0], abs=1e-6) and u == pytest.approx(
        [0, 0.5, 0.75**0.5], abs=1e-6
    )


def test_a_box_has_its_planes():
    planes = box((0.1, 0.2, 0.3), (0.1, 0.2, 0.3)).planes
    told = {tuple(np.round(plane, 5) + 0.0) for plane in planes.astype(float)}
    known = {
        (1, 0, 0, 0.2),
        (-1, 0, 0, 0),
        (0, 1, 0, 0.4),
        (0, -1, 0, 0),
        (0, 0, 1, 0.6),
        (0, 0, -1, 0),
    }
    assert told == known


def test_a_plate_across_the_view_has_the_size_that_perspective_gives_it():
    near, half = 0.3, 0.25
    plate = box((near - 0.05, 0, 0), (0.05, half, half))
    _, (mask,) = render_solids([plate], [(0, 0)], 256)
    side = 256 * half / HALF / (1 - near / DISTANCE)
    assert mask.any(1).sum() == mask.any(0).sum() == pytest.approx(side, abs=1)
    assert mask.sum() == pytest.approx(side**2, rel=0.05)
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    assert rows.min() + rows.max() == columns.min() + columns.max() == 255


def test_up_is_up_and_right_is_right():
    _, masks = render_solids([box((0, 0.5, 0.4), (0.1, 0.1, 0.1))], [(0, 0), (180, 0)], 32)
    rows, columns = np.argwhere(masks[0]).mean(0)
    assert rows < 12 and columns > 20
    assert np.argwhere(masks[1]).mean(0)[1] < 12


@pytest.mark.parametrize("flip", [False, True])
def test_the_nearer_hides_the_farther(flip):
    pair = [box((0.5, 0, 0), (0.1, 0.2, 0.2), RED), box((-0.5, 0, 0), (0.1, 0.2, 0.2), BLUE)]
    pictures, _ = render_solids(pair[::-1] if flip else pair, [(0, 0), (180, 0)], 33)
    front, behind = pictures[:, :, 16, 16]
    assert front[0] > 0 and front[1:].max() == 0 and behind[2] > 0 and behind[:2].max() == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_silhouette_is_that_of_points_inside(seed):
    """Of random frusta: the mask holds what inner points project to, and no more."""
    rng = np.random.default_rng(seed)
    sides = (4, 6, 12)[seed]
    e, f = np.diag([0.3, 0, 0.25])[[0, 2]] + rng.normal(size=(2, 3)) * 0.05
    solid = frustum((0.1, -0.3, -0.2), (0.2, 0.4, 0.3), e, f, RED, taper=0.6, sides=sides)
    views, size = [(30, 20), (200, 30), (300, 5)], 32
    _, masks = render_solids([solid], views, size)
    share = rng.dirichlet(np.full(len(solid.corners), 0.15), 200_000).astype(np.float32)
    x, y, _ = _render.project(share @ solid.corners, frames(views))
    for mask, px, py in zip(masks, x, y, strict=True):
        hit = np.zeros((3 * size, 3 * size), bool)
        hit[
            np.floor((1 - py / HALF) * 1.5 * size).astype(int),
            np.floor((1 + px / HALF) * 1.5 * size).astype(int),
        ] = True
        known = hit.reshape(size, 3, size, 3).sum((1, 3))
        assert mask[known == 9].all() and not mask[known == 0].any()
        assert mask.sum() == pytest.approx(hit.sum() / 9, rel=0.2)


def test_light_is_lambert_s():
    """A plate that faces the light is as bright as its colour, one turned away has the ambient."""
    c, r, u = frames([(0, 0)])
    towards = sum(k * axis for k, axis in zip(_render.LIGHT, (r, u, c), strict=True))[0]
    towards /= np.linalg.norm(towards)
    tilted = np.array([towards, -towards, np.cross(towards, [1, 0, 0])], np.float32)
    bright = _render.shade(tilted, (c, r, u))[0]
    assert bright == pytest.approx([1, _render.AMBIENT, _render.AMBIENT], abs=1e-5)
    picture, mask = render_solids([box((0, 0, 0), (0.3, 0.3, 0.3))], [(0, 0)], 32)
    facing = _render.shade(np.array([[1, 0, 0]], np.float32), (c, r, u))[0, 0]
    assert picture[0, :, 16, 16].tolist() == [round(255 * facing), 0, 0]
    assert (picture[0].transpose(1, 2, 0)[mask[0] == 0].min(1) >= 100).all(), "a white ground"
    assert picture[0, :, 0, 0].tolist() == [255, 255, 255]


def test_edges_are_smooth():
    picture, _ = render_solids([box((0, 0, 0), (0.3, 0.3, 0.3), (0.0, 0.0, 0.0))], [(33, 20)], 64)
    assert 5 < len(np.unique(picture)) <= 10, "of black on white: ninths"


def test_views_do_not_depend_on_each_other():
    solids, views = _parametric.chair(0, 3), [(10, 20), (100, 30), (250, 20)]
    together = render_solids(solids, views, 48)
    alone = [render_solids(solids, [view], 48) for view in views]
    for k in (0, 1):
        assert (together[k] == np.concatenate([one[k] for one in alone])).all()


def test_voxels_have_the_silhouette_of_their_boxes():
    voxels = np.zeros((32, 32, 32), bool)
    voxels[8:24, 6:26, 10:14] = voxels[8:24, 22:26, 14:30] = True
    low, high = np.array([8, 6, 10]), np.array([24, 26, 30])
    radius, middle = np.linalg.norm(high - low) / 2, (low + high) / 2
    parts = [((16, 16, 12), (8, 10, 2)), ((16, 24, 22), (8, 2, 8))]
    solids = [box((np.array(c) - middle) / radius, np.array(h) / radius) for c, h in parts]
    views = [(0, 20), (100, 30), (222, 20)]
    _, boxes = render_solids(solids, views, 64)
    for size, fine in ((64, 3), (64, 5)):
        pictures, masks = _render.render_surface(_render.voxel_surface(voxels, fine), views, size)
        shared = (masks & boxes).sum((1, 2)) / (masks | boxes).sum((1, 2))
        assert shared.min() > 0.9
        assert (pictures[:, 0][masks == 0] >= 100).all() and pictures[:, 0][masks == 1].max() < 255
        assert pictures[:, 0][masks == 1].std() > 10, "shaded"


def test_a_leg_of_one_voxel_stays():
    voxels = np.zeros((32, 32, 32), bool)
    voxels[8:24, 8:24, 24:] = voxels[15, 15, :] = True
    _, masks = _render.render_surface(_render.voxel_surface(voxels, 3), [(0, 20), (100, 30)], 64)
    assert all(mask.any(1)[5:50].all() for mask in masks), "down to the floor, without a gap"


def test_no_holes_in_a_surface():
    voxels = np.zeros((32, 32, 32), bool)
    voxels[6:26, 6:26, 6:26] = True
    for size in (64, 128):
        surface = _render.voxel_surface(voxels, 3 * size // 64)
        _, (mask,) = _render.render_surface(surface, [(45, 30)], size)
        for row in mask[mask.any(1)]:
            inside = np.flatnonzero(row)
            assert row[inside[0] : inside[-1]].all()


def test_a_chair_is_said_by_its_number():
    first, again, other = (_parametric.chair(0, n) for n in (5, 5, 6))
    assert all((a.corners == b.corners).all() for a, b in zip(first, again, strict=True))
    assert all(a.colour == b.colour for a, b in zip(first, again, strict=True))
    corners = [np.concatenate([solid.corners for solid in chair]) for chair in (first, other)]
    assert corners[0].shape != corners[1].shape or (corners[0] != corners[1]).any()


def test_chairs_are_chairs():
    """Of 60: of their size, in the middle, the seat between the floor and the top of the back."""
    kinds = set()
    for n in range(60):
        solids = _parametric.chair(7, n)
        corners = np.concatenate([solid.corners for solid in solids])
        low, high = corners.min(0), corners.max(0)
        assert np.linalg.norm(high - low) == pytest.approx(2, abs=1e-5)
        assert low + high == pytest.approx([0, 0, 0], abs=1e-5)
        assert corners[corners[:, 2].argmax(), 1] > 0, "the top of the back is behind"
        assert all(0 <= part <= 1 for solid in solids for part in solid.colour)
        seat = solids[0].corners
        assert low[2] < seat[:, 2].min() and seat[:, 2].max() < high[2]
        kinds.add(len(solids))
    assert len(kinds) > 8
