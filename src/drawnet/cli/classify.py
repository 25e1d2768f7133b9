"""Classify images, and animate the windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from drawnet.cli._shared import (
    Count,
    DataDir,
    DataName,
    Device,
    open_data,
    outputs,
    parse,
    positive,
    suffix,
    trained,
)
from drawnet.errors import UserError

GROUP, WORDS = "measure", "RUN [IMAGE…]"


@dataclass(frozen=True)
class Classify:
    """Classify pictures, or the first test images if none are given.

    Prints the class of each and its probability.
    """

    run: tyro.conf.Positional[Path]
    """A run folder or a .safetensors file of a classifier."""
    image: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Pictures, folders of them or files of arrays, converted to the model's size and channels."""
    n: Count = 9
    """Number of test images, if no pictures are given."""
    out: Path | None = None
    """Also write an animation of the read windows (.gif, .webp), for a model that has them."""
    invert: bool = False
    """Convert dark strokes on white paper to light strokes on black, as in the digits."""
    device: Device = "auto"
    data_name: DataName = None
    data_dir: DataDir = None


def main(arguments: Sequence[str]) -> None:
    command = parse(Classify, "classify", arguments)
    positive(command.n, "-n")
    import torch

    from drawnet.data.pipeline import to_float
    from drawnet.drawing import figures, files, inputs, sample
    from drawnet.models.base import Classifier
    from drawnet.models.glimpse import Glimpse

    suffix(command.out, files.ANIMATIONS)
    outputs(command.out, models=[command.run], files=command.image)
    model = trained(command.run, command.device)
    network = model.network
    if not isinstance(network, Classifier):
        raise UserError(f"{command.run} does not hold a classifier")
    if command.out and not isinstance(network, Glimpse):
        raise UserError(f"{command.run} has no read window: leave out --out")
    known = dict(enumerate(model.data.classes if model.data else ()))
    if command.image:
        given = inputs.from_paths(command.image, network, binary=False, invert=command.invert)
        names, x = given.names, given.all()
    else:
        data = open_data(model, command.data_name, command.data_dir)
        images = data.splits["test"][: command.n]
        x = to_float(torch.from_numpy(images.pixels[:]), data.levels, None)
        truth = [] if images.labels is None else images.labels.tolist()
        names = [f"test image {k} ({known.get(label, label)})" for k, label in enumerate(truth)]
    for name, p in zip(names, network.classify(x.to(network.device)).cpu(), strict=True):
        best = int(p.argmax())
        print(f"{name}: {known.get(best, best)} ({100 * p.max():.1f} %)")
    if command.out and isinstance(network, Glimpse):
        files.save_animation(figures.drawing(sample.glimpse_trajectory(network, x)), command.out)
        print(command.out)
