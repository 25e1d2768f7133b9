"""Pictures that get sharper by the byte, beside JPEG and WebP."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from drawnet.drawing import figures, progressive
from drawnet.drawing.progressive import FORMATS, Coded, best, coded
from drawnet.evaluation.progressive import Progress


def pictures(channels, n=2):
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(n, channels, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(small, (28, 28), mode="bilinear")


def data(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("quality", [1, 50, 95])
def test_headers_are_what_files_have_in_common(kind, channels, quality):
    """JPEG: all but the scan; its quantisation tables may hold any two bytes."""
    pair = [data(picture, kind, quality=quality) for picture in figures.singles(pictures(channels))]
    found = [
        coded(picture, kind, quality=quality) for picture in figures.singles(pictures(channels))
    ]
    for image, file in zip(found, pair, strict=True):
        assert image.size == len(file) and 0 < image.header < image.size
    if kind == "WebP":
        assert all(file[12:16] == b"VP8 " and file[23:26] == b"\x9d\x01\x2a" for file in pair)
        assert all(image.header == 30 for image in found)
        return
    (start,) = {image.header - 2 for image in found}
    assert pair[0][:start] == pair[1][:start] and pair[0][start:] != pair[1][start:]
    scan = 2 * channels + 6  # Ls, Ns, a selector and tables for each component, Ss, Se, Ah and Al
    assert pair[0][start - scan - 2 : start - scan] == b"\xff\xda" and pair[0][-2:] == b"\xff\xd9"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_is_read_back_as_the_image_it_shows(kind, channels):
    (x,) = pictures(channels, 1)
    (picture,) = figures.singles(x[None])
    found = coded(picture, kind, quality=90)
    assert found.image.shape == x.shape and (found.image - x).abs().mean() < 0.03


def test_the_best_version_is_that_of_least_error_within_the_bytes():
    x = torch.zeros(1, 2, 2)
    few, more, worse, many = (
        Coded(torch.full_like(x, error), 10 + size, 10)
        for error, size in ((0.5, 5), (0.2, 20), (0.3, 20), (0.1, 30))
    )
    found = [many, worse, few, more]
    chosen = [best(x, found, limit) for limit in (4, 19.9, 20, 100)]
    assert all(k is expected for k, expected in zip(chosen, (few, few, more, many), strict=True))


def test_the_pictures_get_sharper_and_the_file_moves(tmp_path):
    x = pictures(3, 3)
    shown = torch.stack([share * x + (1 - share) * 0.5 for share in (0.0, 0.5, 1.0)])
    bits = torch.tensor([0.0, 600.0, 6000.0])[:, None].repeat(1, 3)
    frames = [np.asarray(k).astype(int) for k in progressive.frames(x, Progress(bits, shown))]
    height = len(frames[0]) // 4
    original, model, *others = (
        [k[row * height : (row + 1) * height, :300] for k in frames] for row in range(4)
    )
    for rows in (model, *others):
        below = [np.abs(a[20:120] - b[20:120]).mean() for a, b in zip(rows, original, strict=True)]
        assert below[0] > below[1] > below[2]
    progressive.save(x, Progress(bits, shown), tmp_path / "p.gif")
    with Image.open(tmp_path / "p.gif") as animation:
        assert animation.n_frames == 3 and animation.size == frames[0].shape[1::-1]
