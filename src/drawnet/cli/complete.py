"""Fill the hidden part of pictures in several ways."""

import math
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
    Kernels,
    OutPath,
    check_out,
    outputs,
    parse,
    positive,
    trained,
)
from drawnet.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

GROUP, WORDS = "pictures", "RUN [IMAGE…]"
OUT = OutPath("completion.png")


@dataclass(frozen=True)
class Complete:
    """Hide a part of pictures, and let the model fill it in several ways.

    A row for each picture: what is given, with the hidden part in grey; the completions; set apart, the
    whole picture.  A conditional model chooses the labels of pictures that have none.
    """

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of bundled weights."""
    image: Paths = ()
    hide: tuple[str, ...] = ()
    """left, right, top or bottom half, or box X Y W H: the corner from 0, width and height, in pixels
    of the model; default: right."""
    mask: Path | None = None
    """A picture that is white where the others are hidden, instead of --hide."""
    ways: int = 6
    """Number of completions of each picture."""
    n: Count = 4
    """Number of images of the data, evenly spaced, if no pictures are given."""
    split: Split = "test"
    rounds: int = 16
    """Rounds of the Markov chain that reads the image, draws it again and restores what is given."""
    out: OutPath = OUT
    """By suffix a grid (.png), an animation of the rounds (.gif, .webp), or arrays (.npz): images
    (pictures, ways, C, H, W), and known, true where a pixel is given; folder/ for single PNG files."""
    label: Labels = ()
    seed: int = 0
    invert: Invert = False
    kernels: Kernels = "auto"
    device: Device = "auto"
    data_name: DataName = None
    data_dir: DataDir = None


def main(arguments: Sequence[str]) -> None:
    command = parse(Complete, "complete", arguments)
    for value, flag in ((command.ways, "--ways"), (command.n, "-n"), (command.rounds, "--rounds")):
        positive(value, flag)
    from drawnet.drawing import complete, files, sample
    from drawnet.drawing.figures import Trajectory
    from drawnet.drawing.outputs import Arrays, Folder
    from drawnet.models.latent import PROPOSALS
    from drawnet.training import budget

    check_out(command.out, files.PICTURES, files.ANIMATIONS, [".npz"])
    sources = [*command.image, *([command.mask] if command.mask else [])]
    outputs(command.out.file, models=[command.run], files=sources)
    model = trained(command.run, command.device, command.kernels)
    network, ways = sample.require_inference(model, command.run), command.ways
    known = ~hidden(command, network.shape[1], network.shape[2])
    images = _inputs.opened(command, model, command.n)
    labels = _inputs.conditions(command, model, images, needed=False)
    path, count = command.out.path, len(images.names)
    animated = command.out.folder is None and path.suffix.lower() in files.ANIMATIONS
    frames = command.rounds + 1 if animated else 1
    budget.check_sampling(network, PROPOSALS * ways, f"--ways {ways}")
    size = 12 * count * (ways + 2) * frames * math.prod(network.shape)
    budget.require(f"{count} pictures, --ways {ways}", {"their completions": size})
    if command.out.folder:
        stems = [Path(name).stem for name in images.names]
        folder = Folder(path, count * ways, [k // ways for k in range(count * ways)], stems)
    x = images.all()
    filled = complete.each(
        network,
        x,
        known,
        ways,
        frames,
        labels=labels,
        seed=command.seed,
        rounds=command.rounds,
    )
    if command.out.folder:
        folder.add(Trajectory(filled[-1].flatten(0, 1)[None], {}))
    elif path.suffix.lower() == ".npz":
        arrays = Arrays(path, count, 4 * ways * math.prod(network.shape))
        arrays.put(images=filled[-1].numpy())
        arrays.fixed["known"] = known.numpy()
        arrays.save()
    elif animated:
        files.save_animation([complete.figure(x, known, f) for f in filled], path, fps=4)
    else:
        files.save(complete.figure(x, known, filled[-1]), path)
    print(command.out)


def hidden(command: Complete, height: int, width: int) -> "Tensor":
    """Return where pictures are hidden, (height, width) bool; UserError if nowhere or everywhere."""
    import numpy as np
    import torch
    from PIL import ImageOps

    from drawnet.data.io import pictures

    if command.mask:
        if command.hide:
            raise UserError("--hide and --mask both say what is hidden: give one of them")
        picture = ImageOps.invert(pictures.read(command.mask, str(command.mask)).convert("L"))
        fitted = pictures.fitted(picture, (height, width), "pad")
        where = torch.from_numpy(np.array(fitted) < 128)
    else:
        top, bottom, left, right = _box(command.hide or ("right",), height, width)
        where = torch.zeros(height, width, dtype=torch.bool)
        where[top:bottom, left:right] = True
    if not where.any():
        raise UserError(
            f"nothing is hidden of {height} rows and {width} columns: move the box, or "
            "let the mask be white where the picture is hidden"
        )
    if where.all():
        raise UserError("all of the picture is hidden: leave a part, or use `drawnet sample`")
    return where


def _box(words: Sequence[str], height: int, width: int) -> tuple[int, int, int, int]:
    """Return the rows and columns that words hide: top, bottom, left, right."""
    halves = {
        "left": (0, height, 0, width // 2),
        "right": (0, height, width // 2, width),
        "top": (0, height // 2, 0, width),
        "bottom": (height // 2, height, 0, width),
    }
    kind, *numbers = words
    if kind in halves and not numbers:
        return halves[kind]
    sizes = [int(word) for word in numbers if word.isdecimal() and len(word) < 10]
    if kind != "box" or len(numbers) != 4 or len(sizes) != 4:
        raise UserError(
            f"--hide {' '.join(words)}: say left, right, top or bottom, or box X Y W H in pixels"
        )
    x, y, w, h = sizes
    return y, y + h, x, x + w
