"""Train a model (--resume continues)."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from drawnet.cli._shared import DataDir, Device, Kernels, parse, unnamed
from drawnet.errors import check_folder
from drawnet.training.config import Run

GROUP, WORDS = "train", "RECIPE"
C = TypeVar("C")


@dataclass(frozen=True)
class Train(Generic[C]):
    """Train a model.  Ctrl-C or SIGTERM saves a checkpoint; --resume continues exactly.

    Writes a run folder: model.safetensors, training.safetensors (for --resume), metrics.jsonl, samples/.
    """

    run: Annotated[Run[C], tyro.conf.arg(name="")]
    out: Path | None = None
    """The run folder (default: runs/RECIPE)."""
    resume: bool = False
    """Continue the run in the folder, or start it; with --decay none or exponential also for
    more --examples."""
    kernels: Kernels = "auto"
    device: Device = "auto"
    data_dir: DataDir = None
    tensorboard: bool = False
    """Also write TensorBoard logs (extra: tensorboard)."""


def main(arguments: Sequence[str]) -> None:
    if unnamed("train", arguments):
        return
    from drawnet import models
    from drawnet.cli._recipe import recipe_run

    name, *rest = arguments
    run, looked = recipe_run(name, rest)
    kind: Any = Train[type(run.model)]  # type: ignore[misc]
    command: Train[Any] = parse(kind, f"train {name}", rest, default=Train(run))
    from drawnet.training import distributed
    from drawnet.training.loop import train

    folder = check_folder(command.out or Path("runs") / name)
    device = distributed.own_device(command.device)
    run = command.run
    data = (
        looked.data if looked and looked.settings == run.data else run.data.load(command.data_dir)
    )
    with distributed.group(device):
        progress = train(
            run,
            data,
            folder,
            resume=command.resume,
            tensorboard=command.tensorboard,
            kernels=command.kernels,
            device=device,
        )
        if distributed.rank() == 0:
            metric, minutes = models.of(run.model).selection_metric, progress.seconds / 60
            best = f"{progress.best:.4g}" if progress.best < math.inf else "none yet"
            seen = progress.examples_seen
            print(f"{folder}: {seen} examples, {minutes:.1f} min, best {metric} {best}")
    if progress.examples_seen < run.examples:
        sys.exit(130)
