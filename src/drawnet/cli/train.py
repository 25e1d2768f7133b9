"""Train a model (--resume continues)."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from drawnet.cli._shared import DataDir, Device, Kernels, parse, unnamed
from drawnet.errors import UserError, check_folder, outside
from drawnet.training.config import Run
from drawnet.training.loggers import LoggerName

GROUP, WORDS = "train", "RECIPE"
C = TypeVar("C")


@dataclass(frozen=True)
class Train(Generic[C]):
    """Train a model.  Ctrl-C or SIGTERM saves a checkpoint; --resume continues exactly.

    Writes a run folder: model.safetensors, training.safetensors (for --resume), metrics.jsonl, samples/.

    --model NAME trains another model with the recipe's settings: one of `drawnet list`, or your own,
    module:Class or path/to/file.py:Class, whose settings are then the options --model.SETTING.
    """

    run: Annotated[Run[C], tyro.conf.arg(name="")]
    out: Path | None = None
    """The run folder (default: runs/RECIPE)."""
    resume: bool = False
    """Continue the run in the folder, or start it.  Options that are left out are as the run has them;
    --examples may be more, and the intervals others."""
    kernels: Kernels = "auto"
    device: Device = "auto"
    data_dir: DataDir = None
    log: tuple[LoggerName, ...] = ()
    """Also log the metrics to tensorboard, wandb (offline unless WANDB_MODE says otherwise) or mlflow
    (each an extra), into the run folder."""


def outside_names(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Take --model NAME out of the arguments, and import the code that --data.name names."""
    model, rest, words = "", [], list(arguments)
    while words:
        word = words.pop(0)
        flag, given, value = word.partition("=")
        if flag in ("--model", "--data.name"):
            if not given and (not words or words[0].startswith("--")):
                raise UserError(f"drawnet train: {flag} needs a name")
            value = value if given else words.pop(0)
            if flag == "--model":
                model = value
                continue
            word = f"{flag}={outside.imported(value)}"
        rest.append(word)
    return model, rest


def main(arguments: Sequence[str]) -> None:
    if unnamed("train", arguments):
        return
    from drawnet import models
    from drawnet.cli._recipe import defaults

    name, *rest = arguments
    model, rest = outside_names(rest)
    default = defaults(name, rest)
    if model and not isinstance(default.run.model, config := models.use(model)):
        default = default._replace(run=replace(default.run, model=config()))
    kind: Any = Train[type(default.run.model)]  # type: ignore[misc]
    command: Train[Any] = parse(kind, f"train {name}", rest, default=Train(default.plain))
    from drawnet.training import distributed
    from drawnet.training.loop import train

    folder = check_folder(command.out or Path("runs") / name)
    device = distributed.own_device(command.device)
    with distributed.group(device):
        run, data = default.load(command.run, command.data_dir)
        progress = train(
            run,
            data,
            folder,
            resume=command.resume,
            log=command.log,
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
