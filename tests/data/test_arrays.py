"""Arrays of one's own, in memory: every kind that people have, and one line for the rest."""

import numpy as np
import pytest
import torch

import drawnet
from drawnet import from_arrays
from drawnet.data.config import Data
from drawnet.errors import UserError
from drawnet.models.draw import DrawConfig
from drawnet.training.config import Run
from drawnet.training.loop import train

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 1, 6, 5), np.uint8)
PIXELS[0, 0, 0, 0] = 255
LABELS = np.arange(40) % 4


def pairs(data) -> set[tuple[bytes, int]]:
    return {
        (image.tobytes(), -1 if images.labels is None else int(images.labels[k]))
        for images in data.splits.values()
        for k, image in enumerate(images.pixels)
    }


def expected(labels=LABELS) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(PIXELS, labels, strict=True)}


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        PIXELS[:, 0],
        PIXELS.transpose(0, 2, 3, 1),
        PIXELS.astype(np.int64),
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32),
        torch.from_numpy(PIXELS),
        torch.from_numpy(PIXELS).float() / 255,
        (torch.from_numpy(PIXELS).float() / 255).requires_grad_(),
        torch.from_numpy(PIXELS).double() / 255,
        PIXELS.tolist(),
    ],
)
def test_images_of_every_kind(images):
    data = from_arrays(images, LABELS)
    assert data.shape == (1, 6, 5) and data.levels == 256
    assert pairs(data) == expected()


@pytest.mark.parametrize(
    "labels", [LABELS, LABELS[:, None], torch.from_numpy(LABELS), LABELS + 0.0]
)
def test_labels_of_every_kind(labels):
    assert pairs(from_arrays(PIXELS, labels)) == expected()


def test_words_and_names():
    words = np.array(["d", "a", "c", "b"])[LABELS]
    data = from_arrays(PIXELS, words)
    assert data.classes == ("a", "b", "c", "d")
    assert pairs(data) == expected([data.classes.index(word) for word in words])
    assert from_arrays(PIXELS, LABELS, classes=["w", "x", "y", "z"]).classes == ("w", "x", "y", "z")
    assert pairs(from_arrays(PIXELS)) == expected([-1] * 40)


@pytest.mark.parametrize("channels", [1, 3])
def test_flat_images(channels):
    pixels = np.random.default_rng(1).integers(0, 256, (30, channels, 4, 5), np.uint8)
    data = from_arrays(pixels.reshape(30, -1) / 255, shape=(channels, 4, 5))
    assert data.shape == (channels, 4, 5)
    got = {image.tobytes() for images in data.splits.values() for image in images.pixels}
    assert got == {image.tobytes() for image in pixels}


def test_splits_of_ones_own():
    parts = {"train": slice(0, 20), "val": slice(20, 30), "test": slice(30, 40)}
    images = {split: torch.from_numpy(PIXELS[part]) for split, part in parts.items()}
    data = from_arrays(images, {split: LABELS[part] for split, part in parts.items()})
    for split, part in zip(("train", "valid", "test"), parts.values(), strict=True):
        assert (data.splits[split].pixels == PIXELS[part]).all()
        assert (data.splits[split].labels == LABELS[part]).all()
    with pytest.warns(UserWarning, match="has no valid images: a tenth of train"):
        data = from_arrays({"train": PIXELS[:30], "test": PIXELS[30:]})
    assert len(data.splits["train"]) + len(data.splits["valid"]) == 30


@pytest.mark.parametrize("kind", [bool, np.float32])
def test_binary_images(kind):
    data = from_arrays((PIXELS > 127).astype(kind))
    assert set(np.unique(data.splits["train"].pixels)) == {0, 255}


@pytest.mark.parametrize(
    ("images", "labels", "options", "said"),
    [
        (PIXELS.reshape(40, -1), None, {}, r"is flat, \(40, 30\): give shape=\(C, H, W\)"),
        (
            PIXELS.reshape(40, -1),
            None,
            {"shape": (1, 5, 5)},
            "has 30 values an image, which is not",
        ),
        (PIXELS[0, 0, 0], None, {}, r"is \(5,\): give \(N, H, W\)"),
        (PIXELS[None], None, {}, r"is \(1, 40, 1, 6, 5\): give"),
        (PIXELS - 1.0, None, {}, "values from -1 to 254"),
        (np.where(PIXELS == 255, np.nan, PIXELS), None, {}, "are not finite, the first in row 0"),
        (PIXELS * 1e9, None, {}, "are no pixels: scale them"),
        (PIXELS.astype(complex), None, {}, "is complex128: pixels are integers"),
        (np.array([{}] * 9), None, {}, "is object: pixels are integers"),
        ([[1, 2], [3]], None, {}, "cannot be an array"),
        (PIXELS, LABELS[:-1], {}, r"40 images, but labels \(39,\): give one each"),
        (PIXELS, np.eye(4)[LABELS], {}, r"40 images, but labels \(40, 4\)"),
        (PIXELS, LABELS + 0.5, {}, r"the label is 0\.5"),
        (PIXELS, [None] + [1] * 39, {}, "no label: 1 of"),
        (
            {"train": PIXELS, "rest": PIXELS},
            None,
            {},
            "no split is called 'rest': use train, valid",
        ),
        ({"valid": PIXELS, "test": PIXELS}, None, {}, "images have the splits"),
        ({"train": PIXELS}, {"train": LABELS, "test": LABELS}, {}, "labels .*'test'"),
        (PIXELS[:2], None, {}, "2 usable images"),
        (np.zeros((0, 6, 6)), None, {}, "1, 3 or 4"),
        (np.zeros((20, 3, 9, 3)), None, {}, "ambiguous"),
    ],
)
def test_what_is_refused(images, labels, options, said):
    with pytest.raises(UserError, match=said) as error:
        from_arrays(images, labels, **options)
    assert "\n" not in str(error.value)


def test_a_run_on_arrays_of_ones_own(tmp_path):
    model = DrawConfig(steps=2, units=8, latents=2, read=2, write=2, classes=4)
    settings = {"examples": 32, "batch": 8, "validation_images": 4}
    run = Run("own", model, Data("arrays", "dynamic"), **settings)
    train(run, from_arrays(torch.from_numpy(PIXELS).float() / 255, LABELS), tmp_path)
    assert drawnet.sample(drawnet.load(tmp_path), 2, labels=[3]).shape == (2, 1, 6, 5)
