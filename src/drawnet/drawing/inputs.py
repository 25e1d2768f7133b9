"""Pictures as people have them, as a model takes them: files, folders and arrays, or a data set."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drawnet.data import images
from drawnet.data.io import pictures
from drawnet.data.io.collection import Labels, Own
from drawnet.data.io.files import afford
from drawnet.data.pipeline import View, crop, fixed_noise, to_float
from drawnet.errors import UserError
from drawnet.models.base import Model

ARRAYS = (".npz", ".npy", ".mat", ".parquet", ".idx", "-ubyte", ".gz")
"""Ends of the names of files that hold many images."""


class Inputs(NamedTuple):
    """Images that are read when they are asked for.

    names    what each is called: its file, or its place in an array or a split
    read     indices -> images (len, C, H, W) in [0, 1]
    labels   of each image, [] if they have none
    classes  names of the labels 0, 1, …; () if they have none
    """

    names: list[str]
    read: Callable[[range], Tensor]
    labels: list[int]
    classes: tuple[str, ...] = ()

    def all(self) -> Tensor:
        """Read all images at once; UserError if they do not fit into memory."""
        first = self.read(range(1))
        afford(len(self.names) * first.nbytes, f"{len(self.names)} pictures")
        return self.read(range(len(self.names)))


def from_paths(paths: Sequence[Path], model: Model, *, binary: bool, invert: bool) -> Inputs:
    """Open pictures, folders of them and files of arrays, at the model's size and channels.

    binary: threshold at 0.5, for models of binary pixels.
    invert: dark strokes on white paper become light strokes on black.
    Class sub-folders, and labels beside an array, give labels if all the paths have them.
    """
    parts = [_opened(path) for path in paths]
    names = [name for part in parts for name in part[0]]
    channels, height, width = model.shape
    places = [(part[1], k) for part in parts for k in range(len(part[0]))]

    def read(numbers: range) -> Tensor:
        x = torch.empty(len(numbers), *model.shape)
        for row, number in enumerate(numbers):
            opened, k = places[number]
            picture = pictures.fitted(opened(k), (height, width), "pad")
            array = np.array(picture.convert("L" if channels == 1 else "RGB"))
            x[row] = torch.from_numpy(array).view(height, width, channels).permute(2, 0, 1) / 255
        x = 1 - x if invert else x
        return (x >= 0.5).float() if binary else x

    found = [part[2] for part in parts]
    kinds = {labels.names for labels in found if labels}
    if None in found or len(kinds) != 1:
        return Inputs(names, read, [])
    numbers = [int(k) for labels in found if labels for k in labels.numbers]
    return Inputs(names, read, numbers if min(numbers) >= 0 else [], kinds.pop())


def _opened(
    path: Path,
) -> tuple[list[str], Callable[[int], Image.Image], Labels | None]:
    """Return the names of a path's pictures, how to open each, and their labels."""
    many = path.name.lower().endswith(ARRAYS) and pictures.header(path) is None
    if not path.is_dir() and not many:
        return [str(path)], lambda _: pictures.read(path, str(path)), None
    found = images.opened(path, Own())
    if not found.names:
        raise UserError(f"{path} has no pictures")
    return [f"{path}/{name}" for name in found.names], found.opened, found.labels


def from_view(view: View, numbers: Sequence[int], model: Model, *, invert: bool) -> Inputs:
    """Take the images of a view as the model sees them; numbers: their places in the split."""
    images_ = view.data.splits[view.split]
    labels = [] if images_.labels is None else images_.labels[view.part].tolist()

    def read(rows: range) -> Tensor:
        pixels, noise = view.pixels[rows.start : rows.stop], None
        if view.binarise != "no":
            noise = fixed_noise(view.split, rows, pixels.shape[1:])
        x = crop(to_float(pixels, view.data.levels, noise), model.shape)
        return 1 - x if invert else x

    names = [f"{view.data.name}/{view.split}/{k}" for k in numbers]
    return Inputs(names, read, labels, view.data.classes)
