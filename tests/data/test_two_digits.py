"""Two digits at random places: added and clipped, places and pairs uniform, images fixed."""

import numpy as np
import pytest

from drawnet.data import GeneratedImages, load
from drawnet.data.two_digits import scatter
from drawnet.errors import UserError
from drawnet.nn.noise import integers_each
from scattered import chi2, digits, paste, places, write_mnist

CHECKSUM = "ff6a801aa24580368528c016957fa75a4f90b4f231141af5ce7c92329e8ab7e4"


def images(sources, numbers, count=2, size=60):
    sources = np.asarray(sources, np.uint8)
    return scatter("train", sources, np.asarray(numbers), count=count, size=size)[:, 0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_mnist(tmp_path, monkeypatch, digits(52, 1), digits(15, 3), 12)
    return tmp_path


def test_the_same_images_as_pixel_by_pixel():
    sources, numbers = digits(20, 0).astype(np.uint8), [0, 7, 19, 20, 1_000_003]
    for size, count in ((60, 2), (60, 1), (35, 5), (28, 3)):
        limits = count * [20, size - 27, size - 27]
        for image, n in zip(images(sources, numbers, count, size), numbers, strict=True):
            drawn = integers_each([n], limits, "two_digits", "train").reshape(count, 3).tolist()
            drawn[0][0] = n % 20
            canvas = [[0] * size for _ in range(size)]
            for digit, top, left in reversed(drawn):
                paste(canvas, sources[digit], top, left)
            assert image.tolist() == canvas
    assert (images(sources, [0], 5, 28) == 255).sum() > (sources[0] == 255).sum(), "clipped"


def test_every_image_holds_all_its_digits_whole():
    """Digit k's light is k + 1: what lies on nothing tells which they are, the sum how many."""
    who = np.arange(1, 21)[:, None, None] * np.ones((1, 28, 28), int)
    made = images(who, np.arange(200))
    total = made.sum((1, 2)).astype(int) // 784
    assert (made.sum((1, 2)) % 784 == 0).all()
    second = total - (np.arange(200) % 20 + 1)
    assert (second >= 1).all() and (second <= 20).all()
    for image, n, other in zip(made, np.arange(200), second, strict=True):
        assert places(image, who[n % 20]) and places(image, who[other - 1])
    assert (images(who, np.arange(50), 7).sum((1, 2)) % 784 == 0).all()


def test_places_and_pairs_are_uniform():
    bright = np.full((3, 28, 28), 200)
    single = images(bright, np.arange(9000), count=1, size=30) > 0
    assert chi2(3 * single.any(2).argmax(1) + single.any(1).argmax(1), 9) < 5
    one = np.zeros((4, 28, 28))
    one[:, 0, 0] = [0, 1, 2, 4]  # image 4k is black but for the second digit's corner
    made = images(one, np.arange(0, 40_000, 4))
    other = made.sum((1, 2)).astype(int)
    assert chi2(np.array([0, 1, 2, 0, 3])[other], 4) < 5
    _, row, column = made.nonzero()
    assert chi2(row, 33) < 5 and chi2(column, 33) < 5


def test_an_image_is_the_same_however_it_is_asked_for(folder):
    data = load("two_digits", folder)
    assert (data.shape, data.levels) == ((1, 60, 60), 256)
    pixels = data.splits["train"].pixels
    assert isinstance(pixels, GeneratedImages) and [len(i) for i in data.splits.values()] == [
        40,
        12,
        15,
    ]
    whole = pixels[:]
    assert (pixels[[31, 2, 31]] == whole[[31, 2, 31]]).all() and (pixels[7:9] == whole[7:9]).all()
    assert (pixels[40 + np.arange(40)] != whole).any((1, 2, 3)).all()
    again = load("two_digits", folder)
    assert again.checksum == data.checksum
    assert (again.splits["test"].pixels == data.splits["test"].pixels).all()
    assert data.splits["test"].labels is None


def test_options(folder):
    options = [{}, {"digits": 1}, {"digits": 3}, {"size": 80}]
    loaded = [load("two_digits", folder, **o) for o in options]
    assert len({data.checksum for data in loaded}) == 4 and loaded[3].shape == (1, 80, 80)
    light = [data.splits["test"].pixels.mean() for data in loaded[:3]]
    assert light[1] < light[0] < light[2]
    for wrong, told in (({"digits": 0}, "digits is 0"), ({"size": 20}, "size is 20")):
        with pytest.raises(UserError, match=f"two_digits: {told}: choose an integer from"):
            load("two_digits", folder, **wrong)


def test_facts(real_data):
    data = load("two_digits", real_data)
    assert [len(images) for images in data.splits.values()] == [50_000, 10_000, 10_000]
    assert data.checksum == CHECKSUM, "published figures are of these very images"
    digits = load("mnist", real_data).splits["test"].pixels
    for n in range(20):
        assert places(data.splits["test"].pixels[n, 0], digits[n, 0])
    # two digits of mean 33.8 on 784 pixels, less what is clipped where they overlap
    light = data.splits["test"].pixels.mean() * 60**2
    assert 0.9 * 2 * 784 * 33.8 < light < 2 * 784 * 33.9
