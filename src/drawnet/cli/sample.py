"""Draw images: a grid, an animation, files, numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from drawnet.cli._shared import (
    Count,
    DataDir,
    DataName,
    Device,
    Kernels,
    OutPath,
    check_out,
    label_numbers,
    open_data,
    outputs,
    parse,
    positive,
    suffix,
    trained,
)
from drawnet.errors import UserError, write_text

if TYPE_CHECKING:
    from drawnet.drawing.outputs import Output
    from drawnet.training.checkpoint import SavedModel

GROUP, WORDS = "pictures", "RUN"


SAMPLES = OutPath("samples.png")


@dataclass(frozen=True)
class Sample:
    """Draw images from the prior.  The same seed gives the same images, whatever the batch.

    Writes what --out names, batch by batch: memory does not grow with the number of images, but for
    animations and --neighbours.
    """

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of bundled weights."""
    n: Count = 64
    """Number of images."""
    label: tuple[str, ...] = ()
    """Labels to draw in turn, names or numbers of classes (conditional models); default: all."""
    seed: int = 0
    temperature: float = 1.0
    """Scale of the latents' standard deviation: below 1 more typical, above 1 more varied."""
    out: OutPath = SAMPLES
    """By suffix a grid (.png), an animation of the drawing (.gif, .webp), the images and their labels as
    arrays (.npz), the images alone (.npy), the write window's strokes (.svg); folder/ for single PNG
    files, labels in their names."""
    frames: bool = False
    """Also write the image after every step, and the windows, into the .npz file."""
    trajectory: Path | None = None
    """Also write the animation, with the windows (.gif, .webp)."""
    stages: Path | None = None
    """Also write the stages: a row per image of successive steps (.png)."""
    neighbours: Path | None = None
    """Also write each sample next to the nearest training image (.png)."""
    batch: int = 64
    """Images drawn at a time; affects memory and speed only."""
    kernels: Kernels = "auto"
    device: Device = "auto"
    data_name: DataName = None
    data_dir: DataDir = None


def main(arguments: Sequence[str]) -> None:
    command = parse(Sample, "sample", arguments)
    positive(command.n, "-n")
    positive(command.batch, "--batch")
    from drawnet.drawing import files, sample
    from drawnet.drawing.outputs import ARRAYS, fill

    check_out(command.out, files.PICTURES, files.ANIMATIONS, ARRAYS, [".svg"])
    if command.frames and command.out.path.suffix.lower() != ".npz":
        raise UserError("--frames is for an .npz file: name one by --out")
    suffix(command.trajectory, files.ANIMATIONS)
    suffix(command.stages, files.PICTURES)
    suffix(command.neighbours, files.PICTURES)
    also = [command.trajectory, command.stages, command.neighbours]
    outputs(command.out.file, *also, models=[command.run])
    model = trained(command.run, command.device, command.kernels)
    network = sample.require_generative(model, command.run)
    labels = label_numbers(model, command.label)
    written = planned(command, model, labels)
    parts = sample.sample_batches(
        network,
        command.n,
        labels=labels,
        seed=command.seed,
        temperature=command.temperature,
        batch=command.batch,
        frames=any(output.frames for output in written),
    )
    fill(written, parts)
    print("\n".join(str(path) for path in [command.out, *also] if path))


def planned(command: Sample, model: "SavedModel", labels: Sequence[int]) -> "list[Output]":
    """Return the outputs of a command, before any work is done; UserError for what they cannot hold."""
    import torch

    from drawnet.data.pipeline import crop
    from drawnet.drawing import figures, files, strokes
    from drawnet.drawing.outputs import ARRAYS, Folder, Grid, Output, Samples, Whole
    from drawnet.training import budget

    network, n, path = model.network, command.n, command.out.path
    kind, names = path.suffix.lower(), model.data.classes if model.data else ()
    cycle = labels or range(network.classes)
    animated = command.out.file and kind in files.ANIMATIONS
    stroked = command.out.file and kind == ".svg"
    kept = 2 * n if animated or stroked or command.trajectory else min(n, command.batch)
    budget.check_sampling(network, kept, f"-n {n}")
    found: list[Output] = []
    if command.out.folder:
        found += [Folder(command.out.folder, n, cycle, names)]
    elif animated:
        found += [Whole(lambda t: files.save_animation(figures.drawing(t), path))]
    elif stroked:
        strokes.check(path, network)
        found += [Whole(lambda t: write_text(path, strokes.svg(t)))]
    elif kind in ARRAYS:
        found += [Samples(path, n, network, cycle, names, frames=command.frames)]
    else:
        found += [Grid(path, n, network.shape)]
    if animation := command.trajectory:
        found += [Whole(lambda t: files.save_animation(figures.drawing(t), animation))]
    if stages := command.stages:
        found += [Whole(lambda t: files.save(figures.stages(t), stages), first=8)]
    if near := command.neighbours:
        budget.require(f"-n {n}", {"its images": 24 * n * math.prod(network.shape)})
        data = open_data(model, command.data_name, command.data_dir)
        pixels = crop(torch.from_numpy(data.splits["train"].pixels[:]), network.shape)
        train = pixels if data.levels == 256 else 255 * pixels

        def pairs(t: figures.Trajectory) -> None:
            nearest = figures.neighbours(t.images, train).images
            files.save(figures.side_by_side(t.images, nearest), near)

        found += [Whole(pairs, frames=False)]
    return found
