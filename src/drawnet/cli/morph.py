"""Change one picture, or one class, into another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from drawnet.cli import _inputs
from drawnet.cli._inputs import Invert, Paths, Split
from drawnet.cli._shared import (
    Count,
    DataDir,
    DataName,
    Device,
    Kernels,
    OutPath,
    check_out,
    label_numbers,
    outputs,
    parse,
    positive,
    trained,
)
from drawnet.errors import UserError

GROUP, WORDS = "pictures", "RUN [A B…]"
OUT = OutPath("morph.png")


@dataclass(frozen=True)
class Morph:
    """Change a picture into the next, in the space of the noise that draws them, a row for each pair.

    Without pictures, --label A B changes classes: the same noise, drawn as A and step by step as B, a
    row for each image.
    """

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of bundled weights."""
    image: Paths = ()
    label: tuple[str, ...] = ()
    """Names or numbers of classes (conditional models): those of the pictures, one for all or one for
    each, or, without pictures, the classes to go through."""
    steps: int = 9
    """Number of images from one picture or class to the next, both included."""
    n: Count = 4
    """Number of images to draw of the classes, or of images of the data, evenly spaced, if no pictures
    are given."""
    split: Split = "test"
    out: OutPath = OUT
    """By suffix a grid (.png), an animation (.gif, .webp), or arrays (.npz): images (rows, steps, C, H,
    W); folder/ for single PNG files, row by row."""
    seed: int = 0
    invert: Invert = False
    kernels: Kernels = "auto"
    device: Device = "auto"
    data_name: DataName = None
    data_dir: DataDir = None


def main(arguments: Sequence[str]) -> None:
    command = parse(Morph, "morph", arguments)
    positive(command.n, "-n")
    if command.steps < 2:
        raise UserError(f"--steps must be at least 2, not {command.steps}")
    from drawnet.drawing import figures, files, morph, sample
    from drawnet.drawing.outputs import Arrays, Folder
    from drawnet.models.base import request_labels
    from drawnet.training import budget

    check_out(command.out, files.PICTURES, files.ANIMATIONS, [".npz"])
    outputs(command.out.file, models=[command.run], files=command.image)
    model = trained(command.run, command.device, command.kernels)
    network = sample.require_inference(model, command.run)
    path, steps, seed = command.out.path, command.steps, command.seed
    by_class = not command.image and bool(command.label)
    if by_class:
        labels = label_numbers(model, command.label)
        request_labels(network, labels, range(1))
        rows, legs = command.n, len(labels) - 1
        if legs < 1:
            raise UserError("--label needs two classes or more to change one into the other")
    else:
        images = _inputs.opened(command, model, command.n)
        labels = _inputs.conditions(command, model, images)
        rows, legs = len(images.names) - 1, 1
        if rows < 1:
            raise UserError("a morph needs two pictures or more: name another, or -n 2")
    budget.check_sampling(network, legs * steps, f"--steps {steps}")
    count = rows * legs * steps
    budget.require(
        f"{rows} rows, --steps {steps}", {"images": 24 * count * math.prod(network.shape)}
    )
    folder = Folder(path, count) if command.out.folder else None
    if by_class:
        found = morph.between_classes(network, labels, rows, steps, seed=seed)
    else:
        found = morph.between_images(network, images.all(), steps, labels=labels, seed=seed)
    if folder:
        folder.add(figures.Trajectory(found.flatten(0, 1)[None], {}))
    elif path.suffix.lower() == ".npz":
        arrays = Arrays(path, rows, 4 * legs * steps * math.prod(network.shape))
        arrays.put(images=found.numpy())
        arrays.save()
    elif path.suffix.lower() in files.ANIMATIONS:
        moments = found.transpose(0, 1) if by_class else found.flatten(0, 1)[:, None]
        scale = None if rows > 1 and by_class else max(1, 224 // max(network.shape[1:]))
        files.save_animation([figures.grid(k, scale=scale) for k in moments], path, fps=8)
    else:
        files.save(figures.grid(found.flatten(0, 1), columns=legs * steps), path)
    print(command.out)
