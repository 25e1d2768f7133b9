"""Figures: exact layouts, windows where they are."""

import numpy as np
import pytest
import torch

from drawnet.drawing.figures import (
    COLOURS,
    GAP,
    Trajectory,
    comparison,
    drawing,
    grid,
    joined,
    neighbours,
    side_by_side,
    stages,
    trajectory,
)
from drawnet.errors import UserError
from drawnet.models import sequential
from drawnet.models.draw import Draw, DrawConfig
from drawnet.nn import attention

STEPS, IMAGES = 5, 3


def model(shape=(1, 8, 6), **options):
    torch.manual_seed(0)
    return Draw(DrawConfig(steps=STEPS, units=7, latents=4, **options), shape)


def noise():
    return torch.randn(STEPS, IMAGES, 4, generator=torch.Generator().manual_seed(1))


def still(n=1, size=20, steps=3, channels=1, level=0.0, window=None, name="write"):
    """A trajectory that stays one colour, with the same window in all its steps."""
    frames = torch.full((steps + 1, n, channels, size, size), level)
    if window is None:
        return Trajectory(frames, {})
    return Trajectory(frames, {name: torch.tensor(window, dtype=torch.float32).expand(steps, n, 4)})


def spanning(raw, n=5, size=20):
    """Geometry of raw parameters as a trajectory holds it."""
    w = attention.window(torch.tensor([raw]), n, size, size)
    return [float(v) for v in (w.g_x, w.g_y, (n - 1) * w.delta, w.sigma2.sqrt())]


def inked(picture, name="write"):
    """Rows and columns of the screen pixels that a window's line covers wholly."""
    return np.nonzero((np.asarray(picture) == COLOURS[name]).all(2))


def weight(sigma):
    """Total ink of a window with such a σ, by what it leaves of a white canvas."""
    picture = drawing(still(level=1.0, window=[10, 10, 8, sigma]), scale=6)[1]
    return float((255 - np.asarray(picture)[..., 2].astype(float)).sum())


# -- grids ----------------------------------------------------------------------------------------


def test_grid_has_every_pixel_in_its_place():
    images = torch.arange(3 * 2 * 3).reshape(3, 1, 2, 3) / 17
    sheet = np.asarray(grid(images, columns=2, scale=2, gap=1))
    levels = (images * 255).round().numpy().astype(np.uint8)
    expected = np.full((4 + 1 + 4, 6 + 1 + 6), GAP, np.uint8)
    for i, (row, column) in enumerate(((0, 0), (0, 1), (1, 0))):
        for y in range(4):
            for x in range(6):
                expected[5 * row + y, 7 * column + x] = levels[i, 0, y // 2, x // 2]
    assert sheet.dtype == np.uint8 and (sheet == expected).all()


def test_grid_in_colour_and_without_gaps():
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 2, 5), np.uint8)
    images.setflags(write=False)  # as a data set read from a file may be
    sheet = grid(images, columns=4, scale=1, gap=0)
    assert sheet.mode == "RGB"
    assert (np.asarray(sheet) == np.concatenate(images.transpose(0, 2, 3, 1), 1)).all()


@pytest.mark.parametrize(("n", "size"), [(100, (1138, 1138)), (1, (112, 112)), (2, (226, 112))])
def test_grid_is_square_and_large_enough_to_see(n, size):
    assert grid(torch.zeros(n, 1, 28, 28)).size == size


def test_grid_of_wide_images_has_fewer_columns():
    width, height = grid(torch.zeros(16, 1, 4, 16), scale=1, gap=0).size
    assert (width, height) == (32, 32)


def test_large_images_are_not_made_smaller():
    assert grid(torch.zeros(1, 3, 200, 300)).size == (300, 200)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.zeros(2, 2, 4, 4), "2 channels"),
        (torch.zeros(0, 1, 4, 4), "no images"),
        (torch.full((1, 1, 4, 4), torch.nan), "NaN"),
    ],
)
def test_what_cannot_be_shown(images, says):
    with pytest.raises(UserError, match=says):
        grid(images)


# -- trajectories ----------------------------------------------------------------------------------


def test_frames_are_the_means_before_the_first_step_and_after_each():
    draw = model(read=2, write=3)
    draw.c.data.normal_()
    result = trajectory(draw, sequential.generate(draw, noise()))
    canvas = draw.start(torch.zeros(IMAGES, 0))
    means = [torch.sigmoid(draw.c).expand(IMAGES, 1, 8, 6)]
    for z in noise():
        canvas = draw.advance(z, canvas)
        means.append(torch.sigmoid(canvas.c))
    assert result.frames.shape == (STEPS + 1, IMAGES, 1, 8, 6)
    torch.testing.assert_close(result.frames, torch.stack(means).detach())
    assert (result.images == result.frames[-1]).all() and not result.frames.requires_grad


@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
def test_a_colour_trajectory_stays_within_the_unit_interval(likelihood):
    draw = model((3, 8, 6), likelihood=likelihood)
    frames = trajectory(draw, sequential.generate(draw, noise())).frames
    assert frames.shape == (STEPS + 1, IMAGES, 3, 8, 6)
    assert frames.min() >= 0 and frames.max() <= 1


def test_windows_are_those_of_each_step_in_pixels():
    draw, states = model(read=2, write=3), []
    x = torch.rand(IMAGES, 1, 8, 6)
    result = trajectory(
        draw, (states.append(s) or s for s in sequential.reconstruct(draw, x, noise()))
    )
    assert set(result.windows) == {"read", "write"}
    for name in ("read", "write"):
        for t, state in enumerate(states):
            g_x, g_y, log_sigma2, log_delta, _ = getattr(state, name).T
            expected = (3.5 * (g_x + 1), 4.5 * (g_y + 1), 7 * log_delta.exp())
            geometry = torch.stack((*expected, (log_sigma2 / 2).exp()), 1)
            torch.testing.assert_close(result.windows[name][t], geometry)


def test_only_windows_in_use_are_kept():
    draw = model(read=2, write=3)
    assert set(trajectory(draw, sequential.generate(draw, noise())).windows) == {"write"}
    draw = model(read=0, write=0)
    assert trajectory(draw, sequential.generate(draw, noise())).windows == {}


def test_trajectories_are_joined_along_the_images():
    draw = model()
    whole = trajectory(draw, sequential.generate(draw, noise()))
    parts = [
        trajectory(draw, sequential.generate(draw, noise()[:, i : i + 1])) for i in range(IMAGES)
    ]
    torch.testing.assert_close(joined(parts).frames, whole.frames)
    torch.testing.assert_close(joined(parts).windows["write"], whole.windows["write"])


# -- windows on pictures --------------------------------------------------------------------------


def test_a_fresh_window_spans_the_image():
    window = spanning([0.0] * 5)
    assert window == [10.5, 10.5, 19, 1]
    rows, columns = inked(drawing(still(window=window), scale=6)[1])
    margin, line = 5, 2  # round(120 / 24) and 5 / (1 + 1) halved, less its antialiased rim
    for places in (rows, columns):
        assert abs(places.min() - (margin - 1)) <= line and places.max() <= margin + 120 + line
        assert places.min() + places.max() == 2 * margin + 120 - 1


def test_x_counts_columns_and_y_rows():
    rows, columns = inked(drawing(still(window=[6, 10.5, 4, 0.3]), scale=6)[1])
    assert columns.mean() < 65 - 20 and abs(rows.mean() - 64.5) < 1
    rows, columns = inked(drawing(still(window=spanning([0.4, 0, -3, -1.5, 0])), scale=6)[1])
    assert columns.mean() > 65 + 10 and abs(rows.mean() - 64.5) < 1


def test_a_square_runs_around_the_pixels_of_its_outermost_filters():
    picture = drawing(still(window=[7, 9, 4, 1.5]), scale=6)[1]
    rows, columns = inked(picture)
    margin = 5
    assert (columns.min() + 1, columns.max()) == (margin + 6 * (5 - 1), margin + 6 * 9)
    assert (rows.min() + 1, rows.max()) == (margin + 6 * (7 - 1), margin + 6 * 11)


def test_lines_are_the_thicker_the_sharper():
    weights = [weight(sigma) for sigma in (3.5, 2.0, 1.0, 0.5, 0.1)]
    assert weights == sorted(weights) and len(set(weights)) == 5
    assert weight(50.0) == weight(500.0) > 0  # one screen pixel at the least


@pytest.mark.parametrize("window", [[10.5, 10.5, 4000, 9], [-50, 300, 4, 0.3], [1, 1, 0, 0.1]])
def test_windows_off_the_image_are_drawn_at_its_border(window):
    rows, columns = inked(drawing(still(window=window), scale=6)[1])
    assert len(rows) and max(rows.max(), columns.max()) < 130


def test_a_drawing_starts_before_the_first_step_and_ends_without_windows():
    shown = still(n=2, level=0.5, window=[10, 10, 8, 0])
    frames = drawing(shown, columns=2, scale=2)
    assert len(frames) == 3 + 2 and {f.size for f in frames} == {(2 * 44, 44)}
    assert [len(inked(f)[0]) > 0 for f in frames] == [False, True, True, True, False]
    final = np.asarray(frames[-1])[2:42, 2:42]
    assert (final == np.asarray(grid(shown.images[:1], scale=2))[..., None]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_reading_and_writing_have_their_colours(channels):
    both = still(channels=channels, window=[6, 6, 4, 0.1])
    both.windows["read"] = torch.tensor([15.0, 15, 4, 0.1]).expand(3, 1, 4)
    picture = drawing(both, scale=6)[2]
    assert inked(picture, "write")[1].max() < 65 < inked(picture, "read")[1].min()
    pair = comparison(both.images, both, scale=6)
    assert len(pair) == 5 and pair[0].size == (260, 130)
    assert inked(pair[2], "read")[1].max() < 130 < inked(pair[2], "write")[1].min()
    assert not len(inked(pair[-1], "read")[0]) and not len(inked(pair[-1], "write")[0])


def test_stages_run_from_the_first_step_to_the_last():
    levels = torch.arange(9) / 8
    shown = Trajectory(levels[:, None, None, None, None].expand(9, 3, 1, 4, 4), {})
    sheet = np.asarray(stages(shown, rows=2, columns=3, scale=4))
    assert sheet.shape == (2 * 20, 3 * 20, 3)
    first, last = round(255 / 8), 255
    assert sheet[10, 10, 0] == sheet[30, 10, 0] == first and sheet[10, 50, 0] == last
    assert first < sheet[10, 30, 0] < last
    assert stages(shown, columns=99, scale=4).size == (8 * 20, 3 * 20)


def test_stages_show_each_digit_its_own_window():
    shown = still(n=2, window=[10, 10, 4, 0.1])
    shown.windows["write"] = shown.windows["write"].clone()
    shown.windows["write"][:, 1, 0] = 14  # the second digit's window is further right
    sheet = np.asarray(stages(shown, scale=6))
    upper, lower = (inked(half[:, :130])[1].mean() for half in (sheet[:130], sheet[130:]))
    assert lower - upper == pytest.approx(4 * 6, abs=0.5)


# -- neighbours -----------------------------------------------------------------------------------


def test_neighbours_agree_with_brute_force():
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (5000, 1, 4, 3), np.uint8)
    samples = torch.rand(20, 1, 4, 3, generator=torch.Generator().manual_seed(0))
    found = neighbours(samples, train)
    distance = ((samples.double().numpy()[:, None] - train[None] / 255) ** 2).sum((2, 3, 4))
    assert (found.place.numpy() == distance.argmin(1)).all()
    np.testing.assert_allclose(found.distance, distance.min(1), rtol=1e-5)
    np.testing.assert_allclose(found.images, train[distance.argmin(1)] / 255, rtol=1e-6)
    assert (
        neighbours(train[4990:], torch.from_numpy(train)).place == torch.arange(4990, 5000)
    ).all()


def test_beside_closes_each_row_with_its_neighbour():
    left, right = torch.zeros(4, 1, 3, 2), torch.ones(2, 1, 3, 2)
    sheet = np.asarray(side_by_side(left, right, columns=1, scale=1))
    row = [0] * 2 + [GAP] * 2 + [0] * 2 + [GAP] * 4 + [255] * 2
    assert (sheet == np.array([row] * 3 + [[GAP] * len(row)] * 2 + [row] * 3)).all()
    assert side_by_side(left, torch.ones(4, 1, 3, 2), columns=2, scale=1).size == (2 * 8 + 12, 8)
    with pytest.raises(UserError, match="equal rows"):
        side_by_side(left, torch.ones(3, 1, 3, 2))
