"""Draw images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from drawnet.cli._shared import (
    Count,
    DataDir,
    DataName,
    Device,
    Kernels,
    label_numbers,
    open_data,
    outputs,
    parse,
    positive,
    suffix,
    trained,
)


@dataclass(frozen=True)
class Sample:
    """Draw images from the prior.  The same seed gives the same images."""

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of bundled weights."""
    n: Count = 64
    """Number of images."""
    label: tuple[str, ...] = ()
    """Labels to draw in turn, names or numbers of classes (conditional models); default: all."""
    seed: int = 0
    temperature: float = 1.0
    """Scale of the latents' standard deviation: below 1 more typical, above 1 more varied."""
    out: Path = Path("samples.png")
    """A grid (.png), an animation of the drawing (.gif, .webp), raw numbers (.npz) or the write
    window's strokes (.svg), by suffix."""
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
    import torch

    from drawnet.data.pipeline import crop
    from drawnet.drawing import figures, files, sample, strokes
    from drawnet.training import budget

    suffix(command.out, files.PICTURES, files.ANIMATIONS, [".npz", ".svg"])
    suffix(command.trajectory, files.ANIMATIONS)
    suffix(command.stages, files.PICTURES)
    suffix(command.neighbours, files.PICTURES)
    written = [command.out, command.trajectory, command.stages, command.neighbours]
    outputs(*written, models=[command.run])
    model = trained(command.run, command.device, command.kernels)
    network = sample.require_generative(model, command.run)
    strokes.check(command.out, network)
    budget.check_sampling(network, 2 * command.n, f"-n {command.n}")
    if command.neighbours:
        data = open_data(model, command.data_name, command.data_dir)
    trajectory = sample.sample_trajectory(
        network,
        command.n,
        labels=label_numbers(model, command.label),
        seed=command.seed,
        temperature=command.temperature,
        batch=command.batch,
    )
    files.save_trajectory(trajectory, command.out)
    if command.trajectory:
        files.save_trajectory(trajectory, command.trajectory)
    if command.stages:
        files.save(figures.stages(trajectory), command.stages)
    if command.neighbours:
        pixels = crop(torch.from_numpy(data.splits["train"].pixels[:]), model.network.shape)
        near = figures.neighbours(trajectory.images, pixels if data.levels == 256 else 255 * pixels)
        files.save(figures.side_by_side(trajectory.images, near.images), command.neighbours)
    print("\n".join(str(path) for path in written if path))
