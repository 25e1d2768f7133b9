"""Choose a run by looking at the images, by what the project's experiments showed."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from drawnet.data import Dataset, Images, names, subsample_indices
from drawnet.data.config import Data
from drawnet.data.images import common_size
from drawnet.errors import expand, kind_of
from drawnet.models.conv_draw import ConvDrawConfig
from drawnet.models.draw import DrawConfig
from drawnet.training.config import Run

LARGEST = 64
"""Longest side of pictures that are not scaled down unless a size is asked for."""
SIDE = 32
"""Longest side to which larger ones are scaled."""
NEAR = 0.8
"""Share of pixels below 0.1 or above 0.9 from which on pictures are taken for black and white."""
FEW = 20
"""Fewest training images a class, on the average, for a model to be conditioned on the classes."""


def choose_run(data: Data, source: Path | Dataset | None) -> tuple[Run[Any], Dataset, list[str]]:
    """Choose the run for these images; return it with the images, and what was chosen in four lines.

    source: the folder of data sets, or the images themselves.
    """
    if isinstance(source, Dataset):
        found = source
    else:
        if not data.size and (size := _scaled(data)):
            data = replace(data, size=size)
        found = data.load(source)
    facts = survey(found)
    n, side = facts.images, max(found.shape[1:])
    if facts.near_binary < NEAR:
        pixels = int(np.prod(found.shape[1:]))
        run: Run[Any] = photographs(data, facts.classes, min(300_000 * 1024 // pixels, 200 * n))
    else:
        run = strokes(data, facts.classes, side, 150 * n)
    return run, found, describe(run, found, facts)


@dataclass(frozen=True)
class Facts:
    """What a look at a data set's training images says.

    images       how many there are
    near_binary  share of pixels that are nearly black or nearly white
    classes      labels that a model is to be conditioned on; 0: none
    why          why there are none, or ''
    """

    images: int
    near_binary: float
    classes: int
    why: str = ""


def survey(data: Dataset, count: int = 2_000) -> Facts:
    """Look at up to `count` training images, evenly spaced, and at all labels."""
    train, valid = data.splits["train"], data.splits["valid"]
    some = train.pixels[subsample_indices(len(train), count)] / (data.levels - 1)
    near = float(((some < 0.1) | (some > 0.9)).mean())
    return Facts(len(train), near, *_classes(train, valid, len(data.classes)))


def _classes(train: Images, valid: Images, named: int) -> tuple[int, str]:
    if train.labels is None or valid.labels is None:
        return 0, "there are no class sub-folders or labels"
    classes = max(named, 1 + int(max(train.labels.max(), valid.labels.max())))
    if len(train) < FEW * classes:
        return 0, f"there are fewer than {FEW} images for each of {classes:,} classes"
    return classes, ""


def _scaled(data: Data) -> tuple[int, int] | None:
    """Return the size to which own pictures are scaled; None if they keep theirs or have several."""
    if not kind_of(expand(data.name)) or data.name in names():
        return None
    size = common_size(data.name, data.parse_options())
    if size is None or max(size) <= LARGEST:
        return None
    return tuple(max(1, round(side * SIDE / max(size))) for side in size)  # type: ignore[return-value]


def strokes(data: Data, classes: int, side: int, examples: int) -> Run[DrawConfig]:
    """Attentive DRAW on binary pixels; windows of 12×12 where 5×5 are small, as in `two_digits`."""
    if data.binarise == "no":
        data = replace(data, binarise="dynamic")
    window = 5 if side <= 40 else 12
    return Run(
        "images",
        DrawConfig(24, 256, 32, read=window, write=window, classes=classes),
        data,
        examples=_length(min(examples, 1_000_000 if window == 5 else 400_000)),
        batch=64,
        lr=2e-3,
        warmup=6_400,
        kl_warmup=20_000,
        evaluate_every=40_000,
        validation_images=1_000,
    )


def photographs(data: Data, classes: int, examples: int) -> Run[ConvDrawConfig]:
    """Convolutional DRAW with the settings of `cifar10_conv`, the best in true bits/dim.

    The rate weighs three times: samples have the data's layout, which those of the bound alone lack, at
    the price of bits/dim (docs/log.md).
    """
    return Run(
        "images",
        ConvDrawConfig(likelihood="logistic", classes=classes),
        data,
        examples=_length(examples),
        batch=32,
        lr=2e-3,
        warmup=1_280,
        kl_weight=3.0,
        evaluate_every=20_000,
        validation_images=500,
    )


def _length(examples: int) -> int:
    """Round down to ten thousands, at least two of them."""
    return max(20_000, examples // 10_000 * 10_000)


def describe(run: Run[Any], data: Dataset, facts: Facts) -> list[str]:
    """Say in four lines what the images are, and what was chosen and why."""
    channels, height, width = data.shape
    total = sum(len(images) for images in data.splits.values())
    binary, model = run.model.likelihood == "bernoulli", run.model
    kind = "grey" if channels == 1 else "colour"
    first = ", ".join(data.classes[:3]) + (", …" if len(data.classes) > 3 else "")
    called = f" ({first})" if first else ""
    classes = f"{facts.classes} classes{called}" if facts.classes else facts.why
    label = data.classes[0] if data.classes else 0
    asked = f", conditioned on the class (sample --label {label})" if facts.classes else ""
    near = f"{100 * facts.near_binary:.0f} % of the pixels nearly black or white"
    if binary:
        shape = f"attentive DRAW, {model.steps} steps, windows of {model.read}x{model.read}"
        why = "strokes are drawn one after another"
        pixels = (
            "Bernoulli, binarised anew at every use (--data.binarise dynamic), as they nearly are"
        )
    else:
        shape = f"convolutional DRAW, {model.steps} steps"
        why = "of all models here it has the fewest bits on grey levels and colour"
        pixels = (
            "256 levels under a discretised logistic, a true code length; the rate weighs three "
            "times (--kl-weight 3), for samples that hang together"
        )
    epochs = round(run.examples / facts.images)
    return [
        f"{data.name}: {total:,} images of {height}x{width}, {kind}, {near}; {classes}",
        f"model: {shape}{asked}: {why}",
        f"pixels: {pixels}",
        f"length: {run.examples:,} examples, each image {epochs:,} times, in batches of {run.batch}; "
        "options override all this",
    ]
