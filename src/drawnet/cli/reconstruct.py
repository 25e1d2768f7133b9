"""Read pictures and draw them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from drawnet.cli._shared import parse, suffix, trained


@dataclass(frozen=True)
class Reconstruct:
    """Read pictures through the model and draw them again."""

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of weights that come with drawnet."""
    image: tyro.conf.Positional[tuple[Path, ...]]
    """Pictures; they are brought to the model's size and colours."""
    out: Path = Path("reconstruction.png")
    """A still (.png) or the film (.gif, .webp) of input, read window, canvas and write window."""
    label: tuple[int, ...] = ()
    """What the pictures show (conditional models): one class for all, or one for each."""
    seed: int = 0
    invert: bool = False
    """Take dark strokes on white paper for light strokes on black, as the digits are."""


def main(arguments: Sequence[str]) -> None:
    command = parse(Reconstruct, "reconstruct", arguments)
    from drawnet.drawing import files, sample

    model = trained(command.run)
    network = sample.require_inference(model, command.run)
    suffix(command.out, files.PICTURES, files.ANIMATIONS)
    binary = getattr(model.run.model, "likelihood", "bernoulli") == "bernoulli"
    x = files.read_pictures(command.image, network, binary=binary, invert=command.invert)
    trajectory = sample.redraw_trajectory(network, x, labels=command.label, seed=command.seed)
    files.save_comparison(x, trajectory, command.out)
    print(command.out)
