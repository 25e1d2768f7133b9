"""All randomness, keyed: the same key gives the same numbers, whatever was drawn before.

A run's noise is a function of (seed, purpose, step) and is drawn for the global batch, of which
each process takes its rows: resuming and splitting a batch over processes change nothing.
Noise that belongs to one image is keyed by that image: how images are batched changes nothing.
It is drawn on the CPU and then moved: every device computes with the same numbers.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Key = str | int
Device = torch.device | str


def generator(*key: Key) -> torch.Generator:
    """A CPU generator seeded by the SHA-256 of its key."""
    return torch.Generator().manual_seed(_digest(key) >> 1)


def _digest(key: tuple[Key, ...]) -> int:
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little")


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, n: int) -> Tensor:
    """The order in which an epoch visits its n examples, (n,) int64."""
    return torch.randperm(n, generator=generator("permutation", seed, epoch))


def stream(seed: int, start: int, count: int, n: int) -> Tensor:
    """Examples number start .. start+count-1 of the endless row of permuted epochs, (count,)."""
    places = torch.arange(start, start + count)
    parts = [
        permutation(seed, int(epoch), n)[places[places // n == epoch] % n]
        for epoch in (places // n).unique()
    ]
    return torch.cat(parts)


class NoiseSource(Protocol):
    """Where noise comes from: a training step's (`Noise`) or each image's own (`ImageNoise`)."""

    def normal(self, purpose: str, *shape: int, axis: int = 0) -> Tensor:
        """N(0, 1) of this shape, whose `axis` counts the images."""

    def uniform(self, purpose: str, *shape: int, axis: int = 0) -> Tensor:
        """U(0, 1), likewise."""


@dataclass(frozen=True)
class Noise:
    """The noise of one training step: this process's rows `rank` of `world` equal parts.

    device: where the numbers are needed.
    """

    seed: int
    step: int
    rank: int = 0
    world: int = 1
    device: Device = "cpu"

    def _rows(self, noise: Tensor, batch: int, axis: int) -> Tensor:
        return noise.narrow(axis, self.rank * batch, batch).to(self.device)

    def normal(self, purpose: str, *shape: int, axis: int = 0) -> Tensor:
        """N(0, 1) of this shape, whose `axis` is this process's part of the batch."""
        whole = [size * (self.world if k == axis else 1) for k, size in enumerate(shape)]
        drawn = torch.randn(whole, generator=generator(self.seed, purpose, self.step))
        return self._rows(drawn, shape[axis], axis)

    def uniform(self, purpose: str, *shape: int, axis: int = 0) -> Tensor:
        """U(0, 1), likewise."""
        whole = [size * (self.world if k == axis else 1) for k, size in enumerate(shape)]
        drawn = torch.rand(whole, generator=generator(self.seed, purpose, self.step))
        return self._rows(drawn, shape[axis], axis)


class _Keyed(ABC):
    """Noise that belongs to each row by a key of its own, with the interface of a step's `Noise`."""

    device: Device

    @abstractmethod
    def keys(self, purpose: str) -> Iterator[tuple[Key, ...]]:
        """The rows' keys, in their order."""

    def normal(self, purpose: str, *shape: int, axis: int = 0) -> Tensor:
        """N(0, 1) of this shape, whose `axis` counts the rows."""
        return _each(torch.randn, self.keys(purpose), shape, axis).to(self.device)

    def uniform(self, purpose: str, *shape: int, axis: int = 0) -> Tensor:
        """U(0, 1), likewise."""
        return _each(torch.rand, self.keys(purpose), shape, axis).to(self.device)


@dataclass(frozen=True)
class ImageNoise(_Keyed):
    """Noise that belongs to each image by its number."""

    seed: int
    images: range
    device: Device = "cpu"

    def keys(self, purpose: str) -> Iterator[tuple[Key, ...]]:
        return ((self.seed, purpose, k) for k in self.images)


@dataclass(frozen=True)
class DrawNoise(_Keyed):
    """Noise of some draws for each of some images: a row an image and draw, an image's in a row."""

    seed: int
    images: range
    draws: range
    device: Device = "cpu"

    def keys(self, purpose: str) -> Iterator[tuple[Key, ...]]:
        return ((self.seed, f"{purpose} {n}", k) for n in self.images for k in self.draws)


def _each(
    draw: Callable[..., Tensor], keys: Iterable[tuple[Key, ...]], shape: Sequence[int], axis: int
) -> Tensor:
    each = (*shape[:axis], *shape[axis + 1 :])
    return torch.stack([draw(each, generator=generator(*key)) for key in keys], axis)


def normal_each(seed: int, purpose: str, images: Iterable[int], *shape: int) -> Tensor:
    """N(0, 1) for each image by its number: (len(images), *shape)."""
    return torch.stack([torch.randn(shape, generator=generator(seed, purpose, k)) for k in images])


def uniform_each(seed: int, purpose: str, images: Iterable[int], *shape: int) -> Tensor:
    """U(0, 1) for each image by its number: (len(images), *shape)."""
    return torch.stack([torch.rand(shape, generator=generator(seed, purpose, k)) for k in images])


def integers_each(numbers: ArrayLike, limits: ArrayLike, *key: Key) -> NDArray[np.int64]:
    """Whole numbers for each image by its number, all images at once: (len(numbers), len(limits)).

    Column j is uniform over 0 .. limits[j] - 1 (to limits[j] / 2³²), whatever the other columns are.
    SplitMix64 (Steele, Lea, Flood 2014), whose outputs can be had in any order: image n's own
    stream is seeded by output n of the key's.
    """
    start = np.array(_digest(key), np.uint64)
    images = _splitmix(start, np.asarray(numbers, np.uint64))
    top = np.asarray(limits, np.uint64)
    drawn = _splitmix(images[:, None], np.arange(len(top), dtype=np.uint64))
    return ((drawn >> np.uint64(32)) * top >> np.uint64(32)).astype(np.int64)


def _splitmix(seed: NDArray[np.uint64], n: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Output n, from 0 on, of the stream of this seed; sums and products are mod 2⁶⁴."""
    z: NDArray[np.uint64] = seed + (n + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
