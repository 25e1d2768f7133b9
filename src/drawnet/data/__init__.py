"""Data sets: one file each, read into uint8 arrays (N, C, H, W); found by listing this folder.

To add one, put a file here with `INFO = Info(...)` and `load(data_dir, **options) -> Dataset`.

Legend: N images, C channels, H rows, W columns; pixels are ink or light, rows run downwards.
"""

import hashlib
import importlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drawnet.errors import choose, defining

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class GeneratedImages:
    """Images that are made when they are asked for: read like an array, uint8 (N, C, H, W).

    An image's number says all of it, however it is asked for.  Numbers from N on are as good: k N + n
    is image n made anew, which is what training sees in its epoch k.

    shape    (N, C, H, W)
    make     numbers, int64 (B,) from 0 on -> uint8 (B, C, H, W)
    sources  what the images are made from, uint8
    recipe   how, settings included; sources and recipe are the identity of the images
    """

    shape: tuple[int, ...]
    make: Callable[[NDArray[np.int64]], NDArray[np.uint8]] = field(repr=False)
    sources: NDArray[np.uint8] = field(repr=False)
    recipe: str
    dtype = np.dtype(np.uint8)
    ndim = 4

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice | ArrayLike) -> NDArray[np.uint8]:
        """Images number `part`, which is a run of 0 .. N-1 or whole numbers of any shape."""
        if isinstance(part, slice):
            part = np.arange(*part.indices(len(self)))
        numbers = np.asarray(part)
        if numbers.dtype.kind not in "iu" or (numbers < 0).any():
            raise IndexError(f"images have whole numbers from 0 on, not {part!r}")
        flat = numbers.reshape(-1).astype(np.int64)
        made = np.empty((len(flat), *self.shape[1:]), np.uint8)
        for first in range(0, len(flat), 1024):  # the making takes several times the memory
            made[first : first + 1024] = self.make(flat[first : first + 1024])
        return made.reshape(*numbers.shape, *self.shape[1:])


@dataclass(frozen=True, eq=False)
class Images:
    """Images and, where the set has them, their classes.

    pixels  uint8 (N, C, H, W); those of train may be made when they are asked for
    labels  int64 (N,) or None
    """

    pixels: NDArray[np.uint8] | GeneratedImages
    labels: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4:
            raise ValueError(f"pixels are {self.pixels.dtype} {self.pixels.shape}, not uint8 NCHW")
        if self.labels is not None and self.labels.shape != (len(self.pixels),):
            raise ValueError(f"{len(self.pixels)} images, but labels {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, part: slice) -> "Images":
        """A run of the images, in the same memory (of images that are made: made now)."""
        return Images(self.pixels[part], None if self.labels is None else self.labels[part])


def subsample_indices(n: int, count: int | None) -> slice | NDArray[np.int64]:
    """So many of n places, as evenly spread as they can be; None or n: all of them.

    The first images of a set are no fair part of it: those of binarised MNIST's test are all zeros.
    """
    if count is None or count >= n:
        return slice(None)
    return np.arange(count) * n // count


@dataclass(frozen=True, eq=False)
class Dataset:
    """A whole data set in memory.

    levels  2: pixels are 0 or 1;  256: pixels are 0..255
    splits  'train', 'valid' and 'test', none empty, all of one shape (C, H, W); but train may be
            larger: training then sees windows of it at random places, all else the middle
    """

    name: str
    description: str
    levels: int
    licence: str
    source: str
    splits: dict[str, Images] = field(repr=False)

    def __post_init__(self) -> None:
        if set(self.splits) != set(SPLITS):
            raise ValueError(f"splits are {sorted(self.splits)}, not {SPLITS}")
        if self.levels not in (2, 256):
            raise ValueError(f"levels is {self.levels}, neither 2 nor 256")
        for split, images in self.splits.items():
            (c, *sides), (channels, *least) = images.pixels.shape[1:], self.shape
            larger = all(side >= low for side, low in zip(sides, least, strict=True))
            fits = sides == least or (split == "train" and larger)
            if not len(images) or c != channels or not fits:
                raise ValueError(f"{split} is {images.pixels.shape}, the set is {self.shape}")
            if self.levels == 2 and images.pixels[:].max() > 1:
                raise ValueError(f"{split} has pixels other than 0 and 1")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image as a model sees it."""
        return cast(tuple[int, int, int], self.splits["valid"].pixels.shape[1:])

    @cached_property
    def checksum(self) -> str:
        """sha256, in hex, over each split's name, shape and pixels: the identity of the images.

        Of images that are made when asked for, recipe and sources stand for the pixels.
        """
        digest = hashlib.sha256()
        for split in SPLITS:
            pixels = self.splits[split].pixels
            digest.update(f"{split} {pixels.shape}\n".encode())
            if isinstance(pixels, GeneratedImages):
                digest.update(f"{pixels.recipe}\n".encode())
                pixels = pixels.sources
            digest.update(np.ascontiguousarray(pixels).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class File:
    """An official file, for `drawnet fetch`.

    name       what it is called on disk
    addresses  where to get it, tried in order
    sha256     hex; size in bytes, where known
    """

    name: str
    addresses: tuple[str, ...]
    sha256: str
    size: int | None = None


@dataclass(frozen=True)
class Info:
    """What is known of a data set without reading it.

    source  who to cite, and where the data come from
    files   what `drawnet fetch` downloads; empty where there is nothing to download
    origin  the data set that this one is made from, where it has no files of its own
    """

    name: str
    description: str
    licence: str
    source: str
    files: tuple[File, ...] = ()
    origin: str = ""

    def dataset(self, levels: int, splits: dict[str, Images], **changed: str) -> Dataset:
        """The data set of this description; `changed` replaces parts of it (name, source, ...)."""
        known = {key: getattr(self, key) for key in ("name", "description", "licence", "source")}
        return Dataset(levels=levels, splits=splits, **(known | changed))


def names() -> list[str]:
    """The data sets there are: every file of this folder that defines `INFO`."""
    return defining(Path(__file__).parent, "INFO = ")


def about(name: str) -> Info:
    """What is known of the data set `name`, without reading any of it."""
    return cast(Info, _module(name).INFO)


def load(name: str, data_dir: Path | None = None, **options: Any) -> Dataset:
    """The data set `name`, or the pictures in the file or folder of that path, read into memory.

    data_dir  where its files lie; None: see `default_dir`
    options   the data set's own, the keywords of the `load` in its file
    """
    module, options = _resolve(name, options)
    _refuse_unknown(options, module.load, name)
    return cast(Dataset, module.load(data_dir or default_dir(), **options))


def default_dir() -> Path:
    """Where data files lie: $DRAWNET_DATA, else drawnet/data in the user's cache folder."""
    if chosen := os.environ.get("DRAWNET_DATA"):
        return Path(chosen).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "drawnet" / "data"


def _module(name: str) -> ModuleType:
    choose("data set, file or folder", name, names())
    return importlib.import_module(f"{__name__}.{name}")


def _resolve(name: str, options: dict[str, Any]) -> tuple[ModuleType, dict[str, Any]]:
    """A data set's name wins over a path; write ./mnist for a folder called mnist."""
    path = Path(name).expanduser()
    if name and name not in names() and path.exists():
        return _module("images"), {"path": path} | options
    return _module(name), options


def _refuse_unknown(options: dict[str, Any], function: Callable[..., Dataset], name: str) -> None:
    known = list(inspect.signature(function).parameters)[1:]
    for option in options:
        choose(f"option of data set {name!r}", option, known or ["(none)"])
