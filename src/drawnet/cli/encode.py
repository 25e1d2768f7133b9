"""Write the latents of images as arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from drawnet.cli import _inputs
from drawnet.cli._inputs import Invert, Labels, Paths, Split
from drawnet.cli._shared import (
    CountOrAll,
    DataDir,
    DataName,
    Device,
    Kernels,
    outputs,
    parse,
    positive,
    suffix,
    trained,
)

GROUP, WORDS = "measure", "RUN [IMAGE…]"


@dataclass(frozen=True)
class Encode:
    """Write the latents of images, a row for each, into an .npz file.

    mu, log_sigma: mean and logarithm of the standard deviation of q(z | x); z: a draw of it, all
    (n, T, latents).  labels and classes, if there are any; names: file, or place in the data.
    """

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of bundled weights."""
    image: Paths = ()
    n: CountOrAll = None
    """Number of images of the data, evenly spaced, if no pictures are given; default: all."""
    split: Split = "test"
    out: Path = Path("latents.npz")
    """The file to write (.npz)."""
    label: Labels = ()
    seed: int = 0
    """Of the draw of z, on which the later means depend."""
    batch: int = 64
    """Images encoded at a time; affects memory and speed only."""
    invert: Invert = False
    kernels: Kernels = "auto"
    device: Device = "auto"
    data_name: DataName = None
    data_dir: DataDir = None


def main(arguments: Sequence[str]) -> None:
    command = parse(Encode, "encode", arguments)
    positive(command.n, "-n")
    positive(command.batch, "--batch")
    import numpy as np
    import torch

    from drawnet.drawing import sample
    from drawnet.drawing.outputs import Arrays
    from drawnet.errors import one_line
    from drawnet.models.base import batches
    from drawnet.training import budget

    suffix(command.out, [".npz"])
    outputs(command.out, models=[command.run], files=command.image)
    model = trained(command.run, command.device, command.kernels)
    network = sample.require_inference(model, command.run)
    images = _inputs.opened(command, model, command.n)
    labels = _inputs.conditions(command, model, images)
    count = len(images.names)
    budget.check_sampling(network, min(count, command.batch), f"--batch {command.batch}")
    latents = Arrays(command.out, count, 12 * network.steps * math.prod(network.latents))
    for numbers in batches(count, command.batch):
        x = images.read(numbers)
        steps = [*sample.redrawing(network, x, numbers, labels=labels, seed=command.seed)]
        rows = zip(*((step.q.mu, step.q.log_sigma, step.z) for step in steps), strict=True)
        mu, log_sigma, z = (torch.stack(row, 1).cpu().numpy() for row in rows)
        latents.put(mu=mu, log_sigma=log_sigma, z=z)
    if images.labels:
        latents.fixed["labels"] = np.array(images.labels)
        latents.fixed |= {"classes": np.array(images.classes)} if images.classes else {}
    latents.fixed["names"] = np.array([one_line(name) for name in images.names])
    latents.save()
    print(command.out)
