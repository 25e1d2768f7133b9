"""Read pictures and draw them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from drawnet.cli._shared import Device, label_numbers, outputs, parse, suffix, trained
from drawnet.errors import UserError

GROUP, WORDS = "pictures", "RUN IMAGE…"


@dataclass(frozen=True)
class Reconstruct:
    """Read pictures with the model and draw them again."""

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of bundled weights."""
    image: tyro.conf.Positional[tuple[Path, ...]]
    """Pictures; they are converted to the model's size and channels."""
    out: Path = Path("reconstruction.png")
    """A still (.png) or an animation (.gif, .webp) of input, read window, canvas and write window."""
    label: tuple[str, ...] = ()
    """Labels of the pictures, names or numbers (conditional models): one for all, or one for each."""
    seed: int = 0
    invert: bool = False
    """Convert dark strokes on white paper to light strokes on black, as in the digits."""
    device: Device = "auto"


def main(arguments: Sequence[str]) -> None:
    command = parse(Reconstruct, "reconstruct", arguments)
    if not command.image:
        raise UserError("drawnet reconstruct: name the pictures after the run")
    from drawnet.drawing import files, sample

    suffix(command.out, files.PICTURES, files.ANIMATIONS)
    model = trained(command.run, command.device)
    network = sample.require_inference(model, command.run)
    outputs(command.out, models=[command.run], files=command.image)
    binary = getattr(model.run.model, "likelihood", "bernoulli") == "bernoulli"
    x = files.read_pictures(command.image, network, binary=binary, invert=command.invert)
    trajectory = sample.redraw_trajectory(
        network, x, labels=label_numbers(model, command.label), seed=command.seed
    )
    files.save_comparison(x, trajectory, command.out)
    print(command.out)
