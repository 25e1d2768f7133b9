"""Chairs for the generator: what is held out, and the baselines."""

import numpy as np
import pytest

from drawnet.data import chair_views
from drawnet.data.chairs import VIEWS


def test_views_held_out():
    seen = chair_views.views_held_out(4)
    assert seen.shape == (4, 62) and (seen == seen[0]).all() and seen.sum(1)[0] == 32
    assert (seen[0, :31] == seen[0, 31:]).all()
    assert np.flatnonzero(chair_views.views_held_out(1, 8)[0])[:4].tolist() == [0, 8, 16, 24]


def test_styles_held_out():
    seen = chair_views.styles_held_out(10, every=5, elevation=30)
    assert seen[[0, 1, 2, 3, 5, 6, 7, 8]].all()
    assert seen[[4, 9], :31].all() and not seen[[4, 9], 31:].any()
    assert (chair_views.styles_held_out(2, every=1, elevation=20)[0] == (VIEWS[:, 1] == 30)).all()
    with pytest.raises(ValueError, match="elevation 25"):
        chair_views.styles_held_out(10, elevation=25)


def test_the_nearest_view():
    seen = chair_views.views_held_out(1)[0]
    found = chair_views.nearest_view(VIEWS, seen)
    assert (found[seen] == np.flatnonzero(seen)).all()
    assert found[1] == 0 and found[29] == 28 and found[32] == 31
    fourth = chair_views.nearest_view(VIEWS, chair_views.views_held_out(1, 4)[0])
    assert (fourth[[1, 3, 29, 30]] == [0, 4, 28, 0]).all(), "round the circle"
    low = chair_views.nearest_view(VIEWS, VIEWS[:, 1] == 20)
    assert (low == np.tile(np.arange(31), 2)).all(), "the same azimuth of the other elevation"


def test_neighbours():
    below, above, weight = chair_views.neighbours(VIEWS, chair_views.views_held_out(1, 4)[0])
    assert (below[[0, 1, 2, 29, 33]] == [0, 0, 0, 28, 31]).all()
    assert (above[[0, 1, 2, 29, 33]] == [0, 4, 4, 0, 35]).all()
    assert weight[[0, 1, 2, 3, 29, 30]] == pytest.approx([0, 0.25, 0.5, 0.75, 1 / 3, 2 / 3])


def test_baselines_where_the_answer_is_known():
    """A picture whose pixels are linear in the azimuth is blended without error, but at the seam."""
    images = np.tile(np.arange(31, dtype=np.uint8), 2)[None, :, None, None, None] * np.ones(
        (2, 62, 1, 2, 2), np.uint8
    )
    seen = chair_views.views_held_out(1, 3)[0]
    held = np.flatnonzero(~seen)
    assert chair_views.blend(images, VIEWS, seen).shape == (2, len(held), 1, 2, 2)
    gap = chair_views.blend(images, VIEWS, seen) - images[:, held]
    assert np.abs(gap).max() < 1e-4, "0, 3, ..., 30 are known"
    near = chair_views.nearest(images, VIEWS, seen)[0, :, 0, 0, 0]
    assert near.tolist() == [3 * round(v % 31 / 3) for v in held]
    seen[30] = False
    found = chair_views.blend(images, VIEWS, seen)[0, :, 0, 0, 0]
    wrapped = dict(zip(np.flatnonzero(~seen), found, strict=True))
    assert [wrapped[k] for k in (28, 29, 30)] == pytest.approx([27 * 0.75, 27 * 0.5, 27 * 0.25])
