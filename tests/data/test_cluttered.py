"""Cluttered MNIST: the digit whole, the pieces counted, placed and cut uniformly, splits apart."""

import numpy as np
import pytest

from drawnet.data import GeneratedImages, load
from drawnet.data.cluttered import scatter
from drawnet.errors import UserError
from drawnet.nn.noise import integers_each
from scattered import chi2, digits, paste, places, write_mnist

CHECKSUM = "ca34d7f446f5eec79380ed4a730f27c7618551440b2d0b6f6171d23917bb8134"


@pytest.fixture
def write(tmp_path, monkeypatch):
    def go(train=40, valid=12, test=15):
        learn = np.concatenate([digits(train, 1), digits(valid, 2)])
        write_mnist(tmp_path, monkeypatch, learn, digits(test, 3), valid)
        return tmp_path

    return go


def images(sources, numbers, **settings):
    settings = {"size": 100, "clutter": 8, "patch": 8} | settings
    return scatter("train", np.asarray(sources, np.uint8), np.asarray(numbers), **settings)[:, 0]


def test_the_same_images_as_pixel_by_pixel():
    """The order of pasting does not matter: here the digit comes first."""
    sources, numbers = digits(20, 0).astype(np.uint8), [0, 7, 19, 20, 1_000_003]
    for size, clutter, patch in ((100, 8, 8), (60, 30, 8), (33, 9, 13), (28, 2, 28), (40, 0, 8)):
        made = images(sources, numbers, size=size, clutter=clutter, patch=patch)
        spot, inside = size - patch + 1, 28 - patch + 1
        limits = [size - 27, size - 27, *clutter * [19, inside, inside, spot, spot]]
        for image, n in zip(made, numbers, strict=True):
            top, left, *drawn = integers_each([n], limits, "cluttered", "train")[0].tolist()
            canvas = [[0] * size for _ in range(size)]
            paste(canvas, sources[n % 20], top, left)
            for k in range(clutter):
                other, y, x, to_y, to_x = drawn[5 * k : 5 * k + 5]
                other = [*range(n % 20 + 1, 20), *range(n % 20)][other]  # any but its own
                paste(canvas, sources[other][y : y + patch, x : x + patch], to_y, to_x)
            assert image.tolist() == canvas
    assert (images(sources, [0], size=28, clutter=60) == 255).any(), "light is clipped"


def test_every_image_holds_its_digit_whole():
    sources = digits(30, 0).astype(np.uint8)
    for image, n in zip(images(sources, np.arange(60)), np.arange(60), strict=True):
        assert places(image, sources[n % 30])
    for image, n in zip(images(sources, np.arange(60), clutter=0), np.arange(60), strict=True):
        ((top, left),) = places(image, sources[n % 30])
        assert image.sum() == sources[n % 30].sum()
        assert (image[top : top + 28, left : left + 28] == sources[n % 30]).all()


def test_an_affine_map_interpolates_the_digit_by_its_formula():
    sources, numbers = digits(20, 0).astype(np.uint8), np.array([3, 24, 1_000_003])
    made = images(sources, numbers, size=28, clutter=0, affine=True)
    drawn = integers_each(numbers, [301, 401, 401, 301, 1, 1], "cluttered affine")[:, :4]
    for image, n, entries in zip(made, numbers, drawn - [150, 200, 200, 150], strict=True):
        matrix, whole = np.eye(2) + entries.reshape(2, 2) / 1000, np.zeros((30, 30))
        whole[:28, :28] = sources[n % 20]  # zeros beyond; index -1 is a zero as well
        for y in range(28):
            for x in range(28):
                at = (matrix @ (y - 14, x - 14) + 14).clip(-1, 28)
                (top, left), (down, right) = np.floor(at).astype(int), at % 1
                corners = whole[np.ix_([top, top + 1], [left, left + 1])]
                light = [1 - down, down] @ corners @ [1 - right, right]
                assert abs(image[y, x] - light) <= 0.5 + 1e-6


def test_affine_maps_are_for_training_and_new_in_every_epoch(write):
    folder = write()
    plain, moved = (load("cluttered", folder, clutter=0, affine=a) for a in (False, True))
    for split in ("valid", "test"):
        assert (plain.splits[split].pixels == moved.splits[split].pixels).all()
    first, again, later = (moved.splits["train"].pixels[np.arange(20) + k] for k in (0, 0, 40))
    assert (first == again).all() and (first != later).any((1, 2, 3)).all()
    assert (first != plain.splits["train"].pixels[:20]).any((1, 2, 3)).all()
    assert moved.checksum != plain.checksum


def test_so_many_pieces_of_that_size_out_of_others():
    """The digit's light is 1, all others' 20: nothing is clipped, and light can be counted."""
    sources = np.full((2, 28, 28), 1)
    sources[1] = 20
    for settings in ({}, {"clutter": 3}, {"patch": 5}, {"size": 60, "clutter": 0}):
        clutter, patch = settings.get("clutter", 8), settings.get("patch", 8)
        made = images(sources, np.arange(0, 200, 2), **settings)
        assert (made.sum((1, 2)) == 784 + 20 * clutter * patch**2).all()
    below = images(sources, [0], clutter=0)  # the same place with pieces and without
    assert ((images(sources, [0]) % 20 == 1) == (below == 1)).all()


def test_places_are_uniform_over_all_that_there_are():
    """Five standard deviations of χ², for all 9 places of a small image and for the sides of 100."""
    bright = np.full((3, 28, 28), 200)
    small = images(bright, np.arange(9000), size=30, clutter=0) > 0
    corner = 3 * small.any(2).argmax(1) + small.any(1).argmax(1)
    assert chi2(corner, 9) < 5
    large = images(bright, np.arange(7300), clutter=0) > 0
    for axis in (1, 2):
        assert chi2(large.any(axis).argmax(1), 73) < 5


def test_pieces_come_from_all_over_and_go_all_over():
    """Of a black digit and another whose light tells the row (then the column): one pixel is cut."""
    sources = np.zeros((2, 28, 28), np.uint8)
    numbers = np.arange(0, 20_000, 2)
    for told in (np.arange(28)[:, None], np.arange(28)[None]):
        sources[1] = 1 + told
        made = images(sources, numbers, clutter=1, patch=1)
        n, row, column = made.nonzero()
        assert (n == np.arange(10_000)).all()
        assert chi2(made.max((1, 2)).astype(int) - 1, 28) < 5
        assert chi2(row, 100) < 5 and chi2(column, 100) < 5
    who = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), np.uint8)
    other = images(who, 20 * numbers, clutter=1).max((1, 2)).astype(int)
    assert chi2(other - 1, 19) < 5, "every digit but its own"


def test_an_image_is_the_same_however_it_is_asked_for(write):
    data = load("cluttered", write())
    pixels = data.splits["train"].pixels
    assert (
        isinstance(pixels, GeneratedImages)
        and pixels.shape == (40, 1, 100, 100)
        and len(pixels) == 40
    )
    whole = pixels[:]
    assert (pixels[5:17:3] == whole[5:17:3]).all() and (pixels[[39, 0]] == whole[[39, 0]]).all()
    assert (pixels[3] == whole[3]).all() and pixels[np.array([[1, 2]])].shape == (1, 2, 1, 100, 100)
    assert len({image.tobytes() for image in whole}) == 40
    anew = pixels[40 + np.arange(40)]
    assert (anew != whole).any((1, 2, 3)).all(), "the next epoch's are other images"
    again = load("cluttered", write())
    for split in ("valid", "test"):
        assert isinstance(again.splits[split].pixels, np.ndarray)
        assert (again.splits[split].pixels == data.splits[split].pixels).all()
    assert again.checksum == data.checksum
    for wrong in (-1, [0, -3], 1.5, "a", np.array([True] * 40)):
        with pytest.raises(IndexError, match="integers from 0 on"):
            pixels[wrong]


def test_labels_and_options(write):
    data = load("cluttered", write(), size=60, clutter=4, patch=6)
    assert data.shape == (1, 60, 60) and data.levels == 256
    assert data.splits["train"].labels.tolist() == [n % 10 for n in range(40)]
    assert data.splits["valid"].labels.tolist() == [n % 10 for n in range(40, 52)]
    assert data.splits["test"].labels.tolist() == [n % 10 for n in range(15)]
    sources = load("mnist", write()).splits
    for split in sources:
        for image, digit in zip(data.splits[split].pixels[:], sources[split].pixels, strict=True):
            assert places(image[0], digit[0])
    options = [{}, {"size": 60}, {"clutter": 4}, {"patch": 6}]
    assert len({load("cluttered", write(), **o).checksum for o in options}) == 4
    for wrong, told in (
        ({"size": 27}, "size is 27: choose an integer from 28 on"),
        ({"clutter": -1}, "clutter is -1: .* from 0 on"),
        ({"patch": 29}, "patch is 29: .* from 1 to 28"),
        ({"patch": "big"}, "patch is 'big'"),
        ({"clutter": True}, "clutter is True"),
    ):
        with pytest.raises(UserError, match=f"cluttered: {told}"):
            load("cluttered", write(), **wrong)


@pytest.mark.parametrize("name", ["cluttered", "two_digits"])
def test_splits_share_no_digit(name, tmp_path, monkeypatch):
    """Other digits in one split, the same elsewhere: only that split's images change."""
    seeds = {"train": 1, "valid": 2, "test": 3}

    def made(**changed):
        drawn = {split: digits(12, seed) for split, seed in (seeds | changed).items()}
        learn = np.concatenate([drawn["train"], drawn["valid"]])
        write_mnist(tmp_path, monkeypatch, learn, drawn["test"], 12)
        data = load(name, tmp_path)
        return {s: i.pixels[:] for s, i in data.splits.items()}, data.checksum

    base, checksum = made()
    for split in seeds:
        other, changed = made(**{split: 9})
        assert {s for s in seeds if (base[s] != other[s]).any()} == {split}
        assert changed != checksum
    same, _ = made(valid=1, test=1)  # of the same digits, each split has other places
    assert (same["train"] != same["test"]).any() and (same["valid"] != same["test"]).any()


def test_facts(real_data):
    data = load("cluttered", real_data)
    assert [len(images) for images in data.splits.values()] == [50_000, 10_000, 10_000]
    assert (data.shape, data.levels) == ((1, 100, 100), 256)
    assert data.splits["test"].labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.checksum == CHECKSUM, "published figures are of these very images"
    digits = load("mnist", real_data).splits["test"].pixels
    for n in range(20):
        assert places(data.splits["test"].pixels[n, 0], digits[n, 0])
    # 784 pixels of a digit of mean 33.8, and 8·64 of pieces, of which the middles are cut more often
    light = data.splits["test"].pixels.mean() * 100**2
    assert 784 * 33.8 + 512 * 33.8 < light < 784 * 33.8 + 512 * 60
