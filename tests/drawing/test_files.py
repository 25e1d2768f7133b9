"""Files of pictures and animations: whole or not there, and of the colours that were drawn."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drawnet.drawing import files
from drawnet.drawing.figures import grid
from drawnet.errors import UserError


def sheets(n=6, channels=3, size=(12, 10)):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (*size, channels), np.uint8)) for _ in range(n)]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".PNG"])
def test_pictures_are_saved_by_suffix(tmp_path, suffix):
    picture = grid(torch.rand(4, 3, 8, 8))
    path = tmp_path / "a" / "new" / f"folder{suffix}"
    files.save(picture, path)
    with Image.open(path) as read:
        assert read.size == picture.size
        if suffix != ".jpg":
            assert (np.asarray(read) == np.asarray(picture)).all()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("suffix", "error"), [(".gif", 8), (".webp", 0)])
def test_animations_are_read_back(tmp_path, suffix, error):
    grey = torch.rand(7, 3, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    frames = [grid(images.expand(-1, 3, -1, -1)) for images in grey]
    path = tmp_path / f"film{suffix}"
    files.save_animation(frames, path, fps=10, hold=1.5)
    with Image.open(path) as read:
        assert (read.n_frames, read.size) == (len(frames), frames[0].size)
        assert read.info["loop"] == 0
        durations = []
        for i, frame in enumerate(frames):
            read.seek(i)
            shown = np.asarray(read.convert("RGB")).astype(int)
            durations.append(read.info["duration"])
            if i == len(frames) - 1:
                assert abs(shown - np.asarray(frame)).max() <= error
    assert durations == [100] * (len(frames) - 1) + [1500]


def test_few_colours_are_kept_exactly_by_a_gif(tmp_path):
    levels = np.linspace(0, 255, 100).astype(np.uint8)
    frames = [Image.fromarray(np.roll(levels, i).reshape(10, 10)) for i in range(4)]
    files.save_animation(frames, tmp_path / "grey.gif", loop=False)
    with Image.open(tmp_path / "grey.gif") as read:
        assert "loop" not in read.info
        for i, frame in enumerate(frames):
            read.seek(i)
            assert (np.asarray(read.convert("L")) == np.asarray(frame)).all()


def test_a_gif_has_one_palette_so_that_nothing_flickers(tmp_path):
    first, *others = sheets()
    frames = [
        first,
        *(Image.composite(first, other, Image.new("L", first.size, 255)) for other in others),
    ]
    for i, frame in enumerate(frames):
        frame.putpixel((0, 0), (0, 40 * i, 255))
    files.save_animation(frames, tmp_path / "still.gif")
    with Image.open(tmp_path / "still.gif") as read:
        shown = []
        for i in range(read.n_frames):
            read.seek(i)
            shown.append(np.asarray(read.convert("RGB"))[1:])
    assert len(shown) == len(frames) and all((s == shown[0]).all() for s in shown)


@pytest.mark.parametrize("name", ["film.mp4", "film", "film.png"])
def test_an_unknown_suffix_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"\.gif or \.webp"):
        files.save_animation(sheets(), tmp_path / name)
    with pytest.raises(UserError, match=r"\.png or"):
        files.save(sheets()[0], tmp_path / "film.gif")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "film.gif"
    path.write_bytes(b"old")

    def half(self, data):
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(UserError, match=r"film\.gif.*No space left"):
        files.save_animation(sheets(), path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=r"folder\.png"):
        files.save(sheets()[0], tmp_path / "folder.png")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]
