"""Compress images to the bytes of a file, and back, by a model that must be the same both times."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from drawnet import weights
from drawnet.compression import container, tables
from drawnet.compression.codec import Codec, Stack, used_channels
from drawnet.compression.exact import Exact
from drawnet.errors import UserError
from drawnet.models.sequential import StepModel
from drawnet.training import budget, checkpoint
from drawnet.training.config import to_json

Array = NDArray[Any]
Progress = Callable[[int], object]
LOOKED_AT = 100
"""Images by which the channels of z are chosen that are coded."""


@dataclass(frozen=True)
class Coder:
    """A model that codes images."""

    saved: checkpoint.SavedModel
    name: str
    """That of bundled weights; '' for a model of one's own."""
    identity: str
    """SHA-256, in hex, over configuration and weights."""

    @property
    def network(self) -> StepModel:
        return cast(StepModel, self.saved.network)

    @property
    def levels(self) -> Literal[2, 256]:
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
    network.double()
    return Coder(saved, name, identity)


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
    if labels is not None and not network.classes:
        raise UserError("the model is not conditional: leave out the labels")
    if network.classes and labels is None:
        raise UserError("the model is conditional: give the images' labels (--label)")
    labels = np.zeros(len(pixels), np.int64) if labels is None else labels
    if labels.min() < 0 or labels.max() >= max(network.classes, 1):
        raise UserError(f"labels are from 0 to {network.classes - 1}, not {labels.max()}")
    pixels = levels - 1 - pixels if invert else pixels
    some = np.arange(min(len(pixels), LOOKED_AT)) * len(pixels) // min(len(pixels), LOOKED_AT)
    x = torch.from_numpy(pixels[some]).double() / (levels - 1)
    y = network.encode_labels(torch.from_numpy(labels[some]), network.classes).double()
    codec = Codec(network, levels, used_channels(network, x, y))
    coded = codec.encode(np.require(pixels, requirements=["C", "W"]), labels, progress)
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
    budget.require(str(path), {"its images": 2 * header.images * math.prod(header.shape)})
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
    """SHA-256, in hex, over all bits of what the coder is given for a fixed image and fixed latents."""
    model, found = codec.model, hashlib.sha256()
    size = math.prod(model.shape)
    x = (torch.arange(size) * 7 % 11 * 23 % codec.levels).double().view(1, *model.shape)
    x, y = x / (codec.levels - 1), torch.zeros(1, model.classes, dtype=torch.float64)
    stack = Stack(bytes(range(256)), seal=True)
    with Exact(model):
        state = model.observe(x, model.start(y))
        for t in range(model.steps):
            q, state = model.infer(x, state)
            p = model.prior(state)
            k = (torch.arange(math.prod(codec.latents)) * 37 + 11 * t) % codec.bins
            k = k.view(1, *codec.latents)
            q, z = codec.relative(q, p), codec.place(k, p)
            table = tables.latent_table(q, codec.bins)
            stack.push(k, table)
            for part in (*q, z, table):
                found.update(part.contiguous().numpy().tobytes())
            state = model.advance(z, state)
        pixels = model.likelihood(state)
        seen = [tables.pixel_table(pixels, x, stage) for stage in range(tables.stages(pixels))]
        for part in (pixels.mean, *seen):
            found.update(part.contiguous().numpy().tobytes())
    return hashlib.sha256(found.digest() + stack.content()).hexdigest()
