"""Data sets: one file each, read into uint8 arrays (N, C, H, W); found by listing this folder.

To add one, put a file here with `INFO = Info(...)` and `load(data_dir, **options) -> Dataset`.

Legend: N images, C channels, H rows (top to bottom), W columns.
"""

import hashlib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drawnet.errors import cache_dir, choose, defining, expand, kind_of, outside

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class GeneratedImages:
    """Images generated on access, indexed like an array: uint8 (N, C, H, W).

    Images are pure functions of their index.  Indices from N on are valid: k N + n is image n generated
    again with other noise, as training sees it in epoch k.

    shape    (N, C, H, W)
    make     indices, int64 (B,) from 0 on -> uint8 (B, C, H, W)
    sources  the data that images are generated from, uint8
    recipe   the generator and its settings in words; with `sources` it identifies the images
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
        """Return the images at `part`: a slice of 0 .. N-1 or indices of any shape."""
        if isinstance(part, slice):
            part = np.arange(*part.indices(len(self)))
        indices = np.asarray(part)
        if indices.dtype.kind not in "iu" or (indices < 0).any():
            raise IndexError(f"image indices are integers from 0 on, not {part!r}")
        flat = indices.reshape(-1).astype(np.int64)
        images = np.empty((len(flat), *self.shape[1:]), np.uint8)
        for first in range(0, len(flat), 1024):  # generation needs several times the memory
            images[first : first + 1024] = self.make(flat[first : first + 1024])
        return images.reshape(*indices.shape, *self.shape[1:])


@dataclass(frozen=True, eq=False)
class Images:
    """Images and, if the data set has them, their labels.

    pixels  uint8 (N, C, H, W); those of train may be generated on access
    labels  int64 (N,) or None
    source  what generated the pixels, and generates them again with other noise; or None
    """

    pixels: NDArray[np.uint8] | GeneratedImages
    labels: NDArray[np.int64] | None = None
    source: GeneratedImages | None = None

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4:
            raise ValueError(f"pixels are {self.pixels.dtype} {self.pixels.shape}, not uint8 NCHW")
        if self.labels is not None and self.labels.shape != (len(self.pixels),):
            raise ValueError(f"{len(self.pixels)} images, but labels {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, part: slice) -> "Images":
        """Return a slice of the images: a view, or a new array if they are generated."""
        return Images(self.pixels[part], None if self.labels is None else self.labels[part])


def subsample_indices(n: int, count: int | None) -> slice | NDArray[np.int64]:
    """Return indices of `count` of n items, evenly spaced; None or at least n: all of them.

    The first images of a set are not representative: those of binarised MNIST's test set are all 0s.
    """
    if count is None or count >= n:
        return slice(None)
    return np.arange(count) * n // count


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory.

    levels  2: pixels are 0 or 1;  256: pixels are 0..255
    splits  'train', 'valid' and 'test', none empty, all of one shape (C, H, W); but train may be
            larger: training then sees random crops, everything else the centre
    classes the names of the labels 0, 1, …; () if they have none
    """

    name: str
    description: str
    levels: int
    licence: str
    source: str
    splits: dict[str, Images] = field(repr=False)
    classes: tuple[str, ...] = ()

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
            some = slice(1024 if isinstance(images.pixels, GeneratedImages) else None)
            if self.levels == 2 and images.pixels[some].max() > 1:
                raise ValueError(f"{split} has pixels other than 0 and 1")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image as a model sees it."""
        return cast(tuple[int, int, int], self.splits["valid"].pixels.shape[1:])

    @cached_property
    def checksum(self) -> str:
        """SHA-256, in hex, over each split's name, shape and pixels: it identifies the images.

        For generated images, recipe and sources stand for the pixels.
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

    name       file name on disk
    addresses  URLs, tried in order
    sha256     in hex; size: in bytes, if known
    """

    name: str
    addresses: tuple[str, ...]
    sha256: str
    size: int | None = None


@dataclass(frozen=True)
class Info:
    """Metadata of a data set, available without reading it.

    source  citation and origin of the data
    files   what `drawnet fetch` downloads; empty if there is nothing to download
    origin  the data set that this one is derived from, if it has no files of its own
    """

    name: str
    description: str
    licence: str
    source: str
    files: tuple[File, ...] = ()
    origin: str = ""

    def dataset(
        self,
        levels: int,
        splits: dict[str, Images],
        **changed: Any,
    ) -> Dataset:
        """Return a data set with this metadata; `changed` adds classes or replaces name, source, …"""
        known = {key: getattr(self, key) for key in ("name", "description", "licence", "source")}
        return Dataset(levels=levels, splits=splits, **(known | changed))


GROUP = "drawnet.data"
"""The entry points by which installed packages declare data sets, name = module:function."""


def names() -> list[str]:
    """Return the names of the data sets: every file of this folder that defines `INFO`."""
    return defining(Path(__file__).parent, "INFO = ")


def about(name: str) -> Info:
    """Return the metadata of the data set `name` without reading its files."""
    return cast(Info, _module(name).INFO)


def load(name: str, data_dir: Path | None = None, /, **options: Any) -> Dataset:
    """Read the data set `name`, or the images in the file or folder of that path, into memory.

    name      also module:function of code outside drawnet, imported before, or an entry point of `GROUP`
    data_dir  folder of its files; None: see `default_dir`
    options   the data set's own: keyword arguments of the `load` in its file
    """
    from drawnet.data.options import checked

    if known := _outside(name):
        libraries = importlib.import_module(f"{__name__}.libraries")
        return cast(Dataset, libraries.call(known, data_dir or default_dir(), options))
    module, own = _resolve(name)
    taken = checked(module.load, own | options, name)
    return cast(Dataset, module.load(data_dir or default_dir(), **taken))


def default_dir() -> Path:
    """Return the folder of data files: $DRAWNET_DATA, else drawnet/data in the user's cache folder."""
    if chosen := os.environ.get("DRAWNET_DATA"):
        return expand(chosen)
    return cache_dir() / "data"


def _outside(name: str) -> str:
    """Return module:function if the name is one, or stands for one; ours and paths come first."""
    if not name or name in names() or kind_of(expand(name)):
        return ""
    name = outside.entry_points(GROUP).get(name, name)
    return name if outside.is_outside(name) else ""


def _module(name: str) -> ModuleType:
    choose("data set, file or folder", name, [*names(), *outside.entry_points(GROUP)])
    return importlib.import_module(f"{__name__}.{name}")


def _resolve(name: str) -> tuple[ModuleType, dict[str, Any]]:
    """Find the module and options; a data set's name wins over a path (./mnist is a folder)."""
    if name and name not in names() and kind_of(path := expand(name)):
        return _module("images"), {"path": path}
    return _module(name), {}
