"""Compress images to the bytes of a file, and back, by a model that must be the same both times."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from drawnet import weights
from drawnet.compression import container
from drawnet.compression.codec import Codec, Stack, used_channels
from drawnet.compression.exact import Exact
from drawnet.errors import UserError
from drawnet.models.sequential import StepModel
from drawnet.training import checkpoint
from drawnet.training.config import to_json

Array = NDArray[Any]
Progress = Callable[[int], object]
LOOKED_AT = 100
"""Images by which the channels of z are chosen that are coded."""


@dataclass(frozen=True)
class Coder:
    """A model that codes images."""

    network: StepModel
    name: str
    """That of bundled weights; '' for a model of one's own."""
    identity: str
    """SHA-256, in hex, over configuration and weights."""

    @property
    def levels(self) -> int:
        """Values of a pixel: 2 or 256."""
        return 2 if self.network.config.likelihood == "bernoulli" else 256


def load(path: Path) -> Coder:
    """Load the model of a run folder, a file or a name; UserError if it cannot code images."""
    file = checkpoint.located(path)
    saved = checkpoint.load_model(path, kernels="off")
    network, likelihood = saved.network, getattr(saved.run.model, "likelihood", "")
    if not isinstance(network, StepModel):
        raise UserError(f"{path} holds a model that cannot code images ({saved.kind})")
    if likelihood == "cross_entropy":
        raise UserError(
            f"{path} was trained by a cost that is no likelihood: it cannot code images"
        )
    text = json.dumps([to_json(saved.run)["model"], network.shape], sort_keys=True)
    identity = hashlib.sha256((text + checkpoint.digest(network.state_dict())).encode()).hexdigest()
    name = file.stem if file in weights.bundled().values() else ""
    return Coder(network.double(), name, identity)


@dataclass(frozen=True)
class Compressed:
    """A file's bytes, and what became of the images."""

    data: bytes
    images: int
    packed: int
    """How many of them, the first ones, are packed by bz2, for the latents of those that follow."""
    model_bits: int
    """What the others take."""


def compress(
    coder: Coder,
    pixels: Array,
    labels: Array | None = None,
    *,
    invert: bool = False,
    progress: Progress = lambda n: None,
) -> Compressed:
    """Compress images, uint8 (n, C, H, W) of 0 .. levels - 1, with labels int64 (n,) if it needs them.

    invert: code their negatives.  UserError for images that the model does not take.
    """
    network, levels = coder.network, coder.levels
    if not len(pixels):
        raise UserError("there are no images to compress")
    if pixels.shape[1:] != network.shape:
        have, want = ("×".join(map(str, s)) for s in (pixels.shape[1:], network.shape))
        raise UserError(f"images are {have} (channels, height, width), the model codes {want}")
    if pixels.max() >= levels:
        raise UserError("images have grey levels, the model codes binary pixels")
    if network.classes and labels is None:
        raise UserError("the model is conditional: give the images' labels")
    labels = np.zeros(len(pixels), np.int64) if labels is None else labels
    if labels.min() < 0 or labels.max() >= max(network.classes, 1):
        raise UserError(f"labels are from 0 to {network.classes - 1}, not {labels.max()}")
    pixels = levels - 1 - pixels if invert else pixels
    some = np.arange(min(len(pixels), LOOKED_AT)) * len(pixels) // min(len(pixels), LOOKED_AT)
    x = torch.from_numpy(pixels[some]).double() / (levels - 1)
    y = network.encode_labels(torch.from_numpy(labels[some]), network.classes).double()
    codec = Codec(network, levels, used_channels(network, x, y))
    coded = codec.encode(np.ascontiguousarray(pixels), labels, progress)
    header = container.Header(
        coder.name, coder.identity, probe(codec), network.shape, levels, coded.images, coded.bins,
        coded.used, coded.packed, coded.batches, invert,
    )  # fmt: skip
    data = container.write(header, coded.content)
    return Compressed(data, coded.images, coded.packed, coded.model_bits)


def decompress(
    path: Path, run: Path | None = None, progress: Progress = lambda n: None
) -> tuple[Array, Array | None, int]:
    """Return a file's images, uint8 (n, C, H, W), their labels, and the number of levels.

    run: the model that compressed them; None: the bundled one that the file names.
    """
    header, content = container.read(path)
    if run is None and header.name not in weights.bundled():
        raise UserError(
            f"{path} was made with a model that does not come with drawnet: name its --run"
        )
    coder = load(run or Path(header.name))
    if header.identity != coder.identity:
        raise UserError(f"{path} was made with another model than {run or header.name}")
    network = coder.network
    expected = (network.shape, coder.levels)
    if (header.shape, header.levels) != expected or max(header.used) >= network.latents[0]:
        raise UserError(f"{path} is damaged: it does not fit its model")
    codec = Codec(network, header.levels, header.used, header.bins)
    if header.probe != probe(codec):
        raise UserError(
            f"{path} cannot be read here: this machine, or its versions of PyTorch and constriction, "
            "gives other numbers than where it was made"
        )
    try:
        pixels, labels = codec.decode(container.coded(header, content), progress)
    except (ValueError, OSError, EOFError) as why:
        raise UserError(f"{path} is damaged: {why}") from why
    if header.invert:
        pixels = header.levels - 1 - pixels
    return pixels, labels if network.classes else None, header.levels


@torch.no_grad()
def probe(codec: Codec) -> str:
    """SHA-256, in hex, over the stack after a fixed image has been pushed on fixed bits."""
    shape = codec.model.shape
    size = int(np.prod(shape))
    pattern = (np.arange(size) * 7 % 11 * 23 % codec.levels).astype(np.uint8).reshape(1, *shape)
    bits = b"".join(hashlib.sha256(str(k).encode()).digest() for k in range(codec.need // 128 + 8))
    stack = Stack(bits, seal=True)
    with Exact(codec.model):
        codec.push(stack, torch.from_numpy(pattern), torch.zeros(1, dtype=torch.int64))
    return hashlib.sha256(stack.content()).hexdigest()
