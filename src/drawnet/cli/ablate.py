"""Measure what each part of DRAW contributes."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro

from drawnet import ablation
from drawnet.cli._shared import DataDir, Device, parse, positive, print_table, unnamed
from drawnet.errors import UserError, check_folder
from drawnet.training.config import Run

C = TypeVar("C")


@dataclass(frozen=True)
class Ablate(Generic[C]):
    """Train variants of a DRAW recipe under one budget, and compare them in a table.

    The same command resumes an interrupted study.  Settings of the recipe may be given too.
    """

    run: Annotated[Run[C], tyro.conf.arg(name="")]
    variants: tuple[str, ...] = ()
    """Variants (`drawnet ablate` lists them) in addition to the baseline; default: all."""
    seeds: int = 3
    """Number of runs per variant, from seed 0 on."""
    minutes: float | None = None
    """Budget of a run in processor minutes of training; of the clock, on an accelerator."""
    images: int | None = None
    """Budget of a run in training examples, in place of --minutes."""
    jobs: int | None = None
    """Runs at a time; default: one here, and on a cluster as many as it has cores for."""
    cores: int | None = None
    """Processor cores of each run; default: those here divided by --jobs, on a cluster one."""
    on: Literal["here", "ray"] = "here"
    """Run here, or as tasks of the Ray cluster of this machine or of RAY_ADDRESS (extra: ray)."""
    split: Literal["valid", "test"] = "valid"
    """Split on which the table's figures are measured, over all its images."""
    out: Path | None = None
    """The study's folder (default: runs/ablate-RECIPE)."""
    device: Device = "auto"
    data_dir: DataDir = None


def main(arguments: Sequence[str]) -> None:
    if unnamed("ablate", arguments):
        print("\nvariants of DRAW's recipes:")
        print_table(ablation.titles())
        return
    from drawnet import recipes

    name, *rest = arguments
    run = recipes.get(name)
    kind: Any = Ablate[type(run.model)]  # type: ignore[misc]
    command: Ablate[Any] = parse(kind, f"ablate {name}", rest, default=Ablate(run))
    positive(command.seeds, "--seeds")
    positive(command.jobs, "--jobs")
    positive(command.cores, "--cores")
    if command.on == "ray" and command.device not in ("auto", "cpu"):
        raise UserError(f"--on ray trains on CPUs: leave --device {command.device} out")
    for setting in ("examples", "seed", "evaluate_every", "save_every"):
        if getattr(command.run, setting) != getattr(run, setting):
            flag = setting.replace("_", "-")
            raise UserError(
                f"--{flag} follows from --images or --minutes and --seeds: leave it out"
            )
    from drawnet.ablation import study
    from drawnet.training import budget
    from drawnet.training.device import choose
    from drawnet.training.loop import check_pixels

    chosen = study.Study(
        command.run,
        study.Budget(command.minutes, command.images),
        check_folder(command.out or Path("runs") / f"ablate-{name}"),
        command.variants,
        command.seeds,
        command.split,
        command.jobs,
        command.cores,
        command.on,
        command.data_dir,
        "cpu" if command.on == "ray" else str(choose(command.device)),
    )
    study.planned(chosen)
    data = command.run.data.load(command.data_dir)
    check_pixels(command.run, data.levels)
    if command.on == "here":
        budget.check_training(command.run, data.shape, command.run.batch)
    done = study.pursue(chosen)
    tables = (chosen.folder / f"table.{suffix}" for suffix in ("md", "json", "svg"))
    print("\n".join(str(path) for path in tables if path.exists()))
    if not done:
        sys.exit(130)
