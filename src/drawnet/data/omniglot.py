"""Omniglot (Lake et al. 2015): 1,623 handwritten characters, twenty drawings of each.

Two versions, whose likelihoods are not comparable:
  lake   the original 105x105 line drawings, reduced to size x size by area averaging and binarised
  burda  the grey 28x28 images of Burda et al. 2016 (IWAE), on which papers report likelihoods
and, of the first, two splits: by alphabets, whose test drawings are of characters never seen, and at
random, as Burda's is, whose test drawings are new ones of known characters.
"""

import io
import zipfile
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from drawnet.data import Dataset, File, GeneratedImages, Images, Info, _affine
from drawnet.data.io.files import array, counted, find, find_file, read_mat, read_npz, reading
from drawnet.errors import UserError
from drawnet.nn.noise import generator

SIDE = 105
_CHARACTERS = {"background": 964, "evaluation": 659}
_VALID = 2  # of the 20 drawings of each background character, the last two
_BURDA = {"data": 24_345, "testdata": 8_070}
RANDOM = (
    "handwritten characters, 0/1, reduced from 105x105 and split at random (as many as in Burda's "
    "28x28 version, which has other images: likelihoods are not comparable)"
)
STRETCH, SHEAR, SHIFT = 0.1, 0.15, 4
"""Most by which affine maps stretch and shear a drawing, as parts of it, and shift it, in pixels."""
_BURDA_ADDRESS = "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat"
_BASE = "https://github.com/brendenlake/omniglot/raw/master/python/"

INFO = Info(
    name="omniglot",
    description="handwritten characters, 0/1, reduced from 105x105 (not Burda's 28x28 version: its "
    "likelihoods are not comparable); valid is drawings 19 and 20 of each background character",
    licence="MIT",
    source="Lake, Salakhutdinov, Tenenbaum 2015, Human-level concept learning through "
    "probabilistic program induction; https://github.com/brendenlake/omniglot",
    files=(
        File(
            "images_background.zip",
            (f"{_BASE}images_background.zip",),
            "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
            9_464_212,
        ),
        File(
            "images_evaluation.zip",
            (f"{_BASE}images_evaluation.zip",),
            "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
            6_462_886,
        ),
    ),
)


def load(
    data_dir: Path,
    size: int = 28,
    version: Literal["lake", "burda"] = "lake",
    split: Literal["alphabets", "random"] = "alphabets",
    affine: bool = False,
) -> Dataset:
    """Read Omniglot, (1, size, size); labels number the characters, alphabet by alphabet.

    lake   2 levels, 1 is ink. From omniglot.npz or the official zip files.
           split alphabets: 17,352 / 1,928 / 13,180 images; train and valid are Lake's background
           set, test his evaluation set.  random: 22,993 / 1,352 / 8,070 of all drawings in a fixed
           order, as many as Burda has, which are others.
           affine: in training, every drawing is stretched, sheared and shifted at random, in every
           epoch anew, before it is reduced.
    burda  22,993 / 1,352 / 8,070 images, 256 levels, 28x28; valid is every 18th of the training
           images; no labels. From chardata.mat.
    """
    if version == "burda":
        if split != "alphabets" or affine:
            raise UserError(
                "Burda's omniglot has a split of its own, and images of 28x28 alone: omit "
                "split and affine, or take version lake"
            )
        return _burda(data_dir, size)
    if not 1 <= size <= SIDE:
        raise UserError(f"omniglot has size 1 to {SIDE}, not {size}")
    return _lake(data_dir, size, split, affine)


# ---- Lake's drawings: packed (K, 20, 105, 14), K characters in order of alphabet and number -----


Drawings = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Packed drawings (n, 105, 14), and the number of each one's character, (n,)."""


def _lake(data_dir: Path, size: int, split: str, affine: bool) -> Dataset:
    packed = find_file(data_dir, "omniglot", "omniglot.npz")
    parts = _read_packed(packed) if packed else _read_zips(data_dir)
    drawn = _at_random(parts) if split == "random" else _by_alphabets(parts)
    images = {
        name: _moving(*pair, size) if affine and name == "train" else _still(*pair, size)
        for name, pair in drawn.items()
    }
    return INFO.dataset(2, images, **({"description": RANDOM} if split == "random" else {}))


def _still(drawings: NDArray[np.uint8], labels: NDArray[np.int64], size: int) -> Images:
    return Images(reduce(drawings, size)[:, None], labels)


def _moving(drawings: NDArray[np.uint8], labels: NDArray[np.int64], size: int) -> Images:
    recipe = f"omniglot, affine, {size=}, {STRETCH=}, {SHEAR=}, {SHIFT=}"
    make = partial(transformed, drawings, size)
    source = GeneratedImages((len(drawings), 1, size, size), make, drawings, recipe)
    return Images(source, labels, source)


def _by_alphabets(parts: dict[str, NDArray[np.uint8]]) -> dict[str, Drawings]:
    background, evaluation = (parts[part] for part in _CHARACTERS)
    known, new = np.split(np.arange(len(background) + len(evaluation)), [len(background)])
    pairs = {
        "train": (background[:, :-_VALID], known),
        "valid": (background[:, -_VALID:], known),
        "test": (evaluation, new),
    }
    return {
        name: (drawings.reshape(-1, *drawings.shape[2:]), labels.repeat(drawings.shape[1]))
        for name, (drawings, labels) in pairs.items()
    }


def _at_random(parts: dict[str, NDArray[np.uint8]]) -> dict[str, Drawings]:
    drawings = np.concatenate([parts[part] for part in _CHARACTERS])
    labels = np.arange(len(drawings)).repeat(drawings.shape[1])
    drawings = drawings.reshape(-1, *drawings.shape[2:])
    order = torch.randperm(len(drawings), generator=generator("omniglot", "split")).numpy()
    learn, test, _ = np.split(order, np.cumsum([*_BURDA.values()]))
    held = _held_out(len(learn))
    numbers = {"train": learn[~held], "valid": learn[held], "test": test}
    return {name: (drawings[k], labels[k]) for name, k in numbers.items()}


def _held_out(count: int) -> NDArray[np.bool_]:
    """Say which of so many training images in random order are for validation: every 18th."""
    held: NDArray[np.bool_] = np.arange(count) % 18 == 17
    return held


def reduce(packed: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Reduce line drawings packed (…, 105, 14) to 0/1 images (…, size, size).

    A pixel is ink where ink covers at least 2/5 of its area (exact area averaging, no other
    filter): at 28 this keeps thin strokes connected. The sums are integers below 2²⁴, which float32
    represents exactly on every machine.
    """
    flat = packed.reshape(-1, *packed.shape[-2:])
    reduced = np.empty((len(flat), size, size), np.uint8)
    for first in range(0, len(flat), 64):  # 64 drawings are 3 MB of float32
        part = slice(first, first + 64)
        reduced[part] = _averaged(np.unpackbits(flat[part], axis=-1, count=SIDE), size)
    return reduced.reshape(*packed.shape[:-2], size, size)


def _averaged(strokes: NDArray[np.uint8], size: int) -> NDArray[np.bool_]:
    weights = overlap(size)
    return 5 * (weights @ strokes.astype(np.float32) @ weights.T) >= 2 * SIDE * SIDE


def transformed(
    packed: NDArray[np.uint8], size: int, numbers: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Generate images (B, 1, size, size) at indices (B,) from drawings packed (n, 105, 14).

    Image k n + j is drawing j under a random affine map.
    """
    places = _affine.sources(numbers, SIDE, STRETCH, SHEAR, SHIFT, "omniglot affine")
    strokes = np.unpackbits(packed[numbers % len(packed)], axis=-1, count=SIDE)
    return _averaged(_affine.nearest(strokes, *places), size)[:, None].astype(np.uint8)


def overlap(size: int) -> NDArray[np.float32]:
    """Return (size, 105): the overlap of new pixel j with old pixel i, in 1/size of an old one."""
    new, old = np.arange(size)[:, None] * SIDE, np.arange(SIDE)[None, :] * size
    shared = np.minimum(new + SIDE, old + size) - np.maximum(new, old)
    return shared.clip(min=0).astype(np.float32)


def _read_packed(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Read omniglot.npz: `background`, `evaluation`, and `alphabet`, `character` of all 1,623."""
    arrays = read_npz(path)
    parts = {part: array(arrays, part, (-1, 20, SIDE, 14), path) for part in _CHARACTERS}
    for part, count in _CHARACTERS.items():
        counted(len(parts[part]), count, f"{part} characters", path)
    alphabet, character = (arrays.get(key, np.empty(0)) for key in ("alphabet", "character"))
    counted(min(len(alphabet), len(character)), 1623, "character names", path)
    names = {"background": slice(0, 964), "evaluation": slice(964, 1623)}
    return {p: parts[p][np.lexsort((character[s], alphabet[s]))] for p, s in names.items()}


def _read_zips(data_dir: Path) -> dict[str, NDArray[np.uint8]]:
    return {
        part: _read_zip(find(data_dir, "omniglot", f"images_{part}.zip"), count)
        for part, count in _CHARACTERS.items()
    }


def _read_zip(path: Path, count: int) -> NDArray[np.uint8]:
    """Read the official layout: images_*/ALPHABET/characterNN/NNNN_MM.png, black ink on white."""
    with reading(path, "zip file"), zipfile.ZipFile(path) as files:
        names = sorted(name for name in files.namelist() if name.endswith(".png"))
        counted(len(names), 20 * count, "drawings", path)
        packed = np.stack([_ink(files.read(name)) for name in names])
    return packed.reshape(count, 20, SIDE, 14)


def _ink(png: bytes) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=["PNG"]) as drawing:
        light = np.asarray(drawing.convert("1"))
    if light.shape != (SIDE, SIDE):
        raise ValueError(f"a drawing of {light.shape}")
    return np.packbits(~light, axis=-1)


# ---- Burda's grey images ------------------------------------------------------------------------


def _burda(data_dir: Path, size: int) -> Dataset:
    if size != 28:
        raise UserError(f"Burda's omniglot is 28x28, not {size}x{size}: omit the size")
    path = find(data_dir, "omniglot", "chardata.mat", address=_BURDA_ADDRESS)
    arrays = read_mat(path, *_BURDA)
    learn, test = (_grey(arrays, key, path) for key in _BURDA)
    held = _held_out(len(learn))
    splits = {"train": Images(learn[~held]), "valid": Images(learn[held]), "test": Images(test)}
    return INFO.dataset(
        256,
        splits,
        description="handwritten characters, grey 28x28, the version of Burda et al. 2016; valid "
        "is every 18th of the 24,345 for training",
        source=f"Burda, Grosse, Salakhutdinov 2016, after Lake et al. 2015; {_BURDA_ADDRESS}",
    )


def _grey(arrays: dict[str, Any], key: str, path: Path) -> NDArray[np.uint8]:
    """Read images from columns in MATLAB's (column-major) order, intensities 0..1."""
    columns = arrays.get(key)
    if columns is None or columns.shape != (784, _BURDA[key]):
        raise UserError(f"{path} has no {key!r} of shape (784, {_BURDA[key]}): get a new copy")
    if columns.min() < 0 or columns.max() > 1:
        raise UserError(f"{path}: {key!r} has intensities outside 0..1: get a new copy")
    upright = columns.T.reshape(-1, 1, 28, 28).swapaxes(2, 3)
    return np.ascontiguousarray(np.rint(255 * upright).astype(np.uint8))
