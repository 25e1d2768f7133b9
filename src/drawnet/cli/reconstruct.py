"""Read pictures and draw them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from drawnet.cli import _inputs
from drawnet.cli._inputs import Invert, Labels, Paths, Split
from drawnet.cli._shared import (
    Count,
    DataDir,
    DataName,
    Device,
    outputs,
    parse,
    positive,
    suffix,
    trained,
)

GROUP, WORDS = "pictures", "RUN [IMAGE…]"


@dataclass(frozen=True)
class Reconstruct:
    """Read pictures with the model and draw them again.  Writes one figure or animation of them all."""

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of bundled weights."""
    image: Paths = ()
    n: Count = 8
    """Number of images of the data, evenly spaced, if no pictures are given."""
    split: Split = "test"
    out: Path = Path("reconstruction.png")
    """A still (.png) or an animation (.gif, .webp) of input, read window, canvas and write window."""
    label: Labels = ()
    seed: int = 0
    invert: Invert = False
    device: Device = "auto"
    data_name: DataName = None
    data_dir: DataDir = None


def main(arguments: Sequence[str]) -> None:
    command = parse(Reconstruct, "reconstruct", arguments)
    positive(command.n, "-n")
    from drawnet.drawing import files, sample
    from drawnet.training import budget

    suffix(command.out, files.PICTURES, files.ANIMATIONS)
    outputs(command.out, models=[command.run], files=command.image)
    model = trained(command.run, command.device)
    network = sample.require_inference(model, command.run)
    images = _inputs.opened(command, model, command.n)
    labels = _inputs.conditions(command, model, images)
    budget.check_sampling(network, 2 * len(images.names), f"{len(images.names)} pictures")
    x = images.all()
    trajectory = sample.redraw_trajectory(network, x, labels=labels, seed=command.seed)
    files.save_comparison(x, trajectory, command.out)
    print(command.out)
