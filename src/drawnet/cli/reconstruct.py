"""Read pictures and draw them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
from drawnet.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from drawnet.models.sequential import StepModel

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
    out: Path | None = None
    """A still (.png) or an animation (.gif, .webp) of input, read window, canvas and write window;
    default: reconstruction.png, or progressive.gif."""
    progressive: bool = False
    """Show what of the pictures the first steps alone would tell, the later ones left to the prior, in
    an animation with JPEG and WebP at no more bytes; print ideal bytes and error of every step."""
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
    from drawnet.drawing.progressive import MOST
    from drawnet.training import budget

    default = "progressive.gif" if command.progressive else "reconstruction.png"
    out = command.out or Path(default)
    suffix(out, () if command.progressive else files.PICTURES, files.ANIMATIONS)
    outputs(out, models=[command.run], files=command.image)
    model = trained(command.run, command.device)
    network = sample.require_inference(model, command.run)
    images = _inputs.opened(command, model, command.n)
    if command.progressive and len(images.names) > MOST:
        raise UserError(f"--progressive shows at most {MOST} pictures, not {len(images.names)}")
    labels = _inputs.conditions(command, model, images)
    budget.check_sampling(network, 2 * len(images.names), f"{len(images.names)} pictures")
    x = images.all()
    if command.progressive:
        _progressive(network, x, labels, command.seed, out)
    else:
        trajectory = sample.redraw_trajectory(network, x, labels=labels, seed=command.seed)
        files.save_comparison(x, trajectory, out)
    print(out)


def _progressive(
    network: "StepModel", x: "Tensor", labels: Sequence[int], seed: int, out: Path
) -> None:
    from drawnet.drawing import progressive as pictures
    from drawnet.evaluation import progressive

    found = progressive.progressive(network, x, labels or None, seed=seed)
    pictures.save(x, found, out)
    print("steps  ideal bytes a picture  PSNR, dB")
    for t, point in enumerate(progressive.curve(x, found)):
        print(f"{t:5}{point.bits.mean / 8:23.2f}{point.psnr.mean:10.2f}")
