"""What all tests share: no network, one place for real data, a tiny data set and run."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from drawnet import models
from drawnet.data import Dataset, Images
from drawnet.data.config import Data
from drawnet.models.draw import DrawConfig
from drawnet.training.config import Run

torch.set_num_threads(1)  # tiny tensors: a second thread would only wait


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that reaches past this machine fails."""
    connect = socket.socket.connect

    def guarded(self, address):
        inet = self.family in (socket.AF_INET, socket.AF_INET6)
        if inet and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address[0]}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A folder of the published data sets; the test skips where there is none."""
    folder = Path(os.environ.get("DRAWNET_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("the published data sets are not at hand (DRAWNET_DATA)")
    return folder


def small(kind: str, **settings):
    """The configuration of a model by default, with few steps where their number is a setting."""
    config = models.config(kind)
    steps = {name: 3 for name in ("steps", "chain") if hasattr(config, name)}
    return config(**steps, **settings)


def blobs(n: int, seed: int, side: int = 8) -> np.ndarray:
    """Binary squares at random places, (n, 1, side, side) uint8 of 0 and 1."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((n, 1, side, side), np.uint8)
    for image, (y, x) in zip(pixels, rng.integers(0, side - 3, (n, 2)), strict=True):
        image[0, y : y + 3, x : x + 3] = 1
    return pixels


def classes_of(pixels: np.ndarray) -> np.ndarray:
    """Whether a square stands left (0), in the middle (1) or right (2), int64 (n,)."""
    return pixels.any((1, 2)).argmax(1) // 2


def make_data() -> Dataset:
    """60 + 13 + 11 binary images of 8 × 8 in three classes: numbers that no batch size divides."""
    sizes = {"train": 60, "valid": 13, "test": 11}
    drawn = {name: blobs(n, seed) for seed, (name, n) in enumerate(sizes.items())}
    splits = {name: Images(pixels, classes_of(pixels)) for name, pixels in drawn.items()}
    return Dataset("blobs", "squares", 2, "none", "made by the tests", splits)


def make_run() -> Run[DrawConfig]:
    """A run of 20 steps of 8 examples, evaluated and saved on the way."""
    return Run(
        "tiny", DrawConfig(steps=3, units=12, latents=4, read=2, write=3), Data("blobs"),
        examples=160, batch=8, warmup=16, evaluate_every=48, save_every=24, precision="float32",
    )  # fmt: skip


tiny_data = pytest.fixture(make_data, scope="session", name="tiny_data")
tiny_run = pytest.fixture(make_run, name="tiny_run")
