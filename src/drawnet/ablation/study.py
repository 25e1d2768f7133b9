"""The ablation study: variants × seeds of a DRAW recipe under one budget, each in its own process.

    study.json              the recipe and the budget
    rates/VARIANT.json      the variant's training speed, if the budget is in minutes
    VARIANT-seedS/          an ordinary run, and its result in SPLIT.json
    table.md .json .svg     see `table.py`

These files hold the whole state, so that an interrupted study resumes.
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from drawnet import ablation
from drawnet.ablation import table, variants
from drawnet.ablation.jobs import Job, Rate, brief, budgeted, last_line, log_file
from drawnet.ablation.table import Result
from drawnet.ablation.workers import Workers, hired
from drawnet.errors import UserError, choose, schema, write_text
from drawnet.errors.schema import Positive, PositiveInt
from drawnet.models.draw import DrawConfig
from drawnet.training.config import Run, to_json
from drawnet.training.run_dir import interruptible, locked
from drawnet.training.state import difference

BASELINE = "baseline"


@dataclass(frozen=True)
class Budget:
    """The budget of every run: exactly one of the two."""

    minutes: Positive | None = None
    """Processor minutes of training; of the clock, on an accelerator."""
    images: PositiveInt | None = None
    """Training examples."""

    def __post_init__(self) -> None:
        schema.check(self)
        if (self.minutes is None) == (self.images is None):
            raise UserError("--minutes or --images: give one of them, the budget of every run")


@dataclass(frozen=True)
class Head(Budget):
    """What all runs of a study's folder share: study.json."""

    run: Run[Any] = field(kw_only=True)

    def values(self) -> dict[str, Any]:
        return vars(self) | {"run": to_json(self.run)}


@dataclass(frozen=True)
class Study:
    """Which runs of which recipe, and where."""

    run: Run[Any]
    """The recipe, possibly with other settings."""
    budget: Budget
    folder: Path
    variants: tuple[str, ...] = ()
    """By name; none: all that apply.  The baseline is always included."""
    seeds: int = 3
    split: str = "valid"
    jobs: int | None = None
    """Runs at a time; None: one here, and all that a cluster has cores for."""
    cores: int | None = None
    """Processor cores of a run; None: those here divided by `jobs`, one on a cluster."""
    on: Literal["here", "ray"] = "here"
    data_dir: Path | None = None
    device: str = "cpu"
    """Where the runs compute; those under way at a time share it."""


def planned(study: Study) -> tuple[dict[str, Run[Any]], dict[str, str]]:
    """Return the runs of the variants by name, without a budget, and why the others are left out.

    A variant that equals the baseline is left out; one that does not apply only if none was named,
    else UserError.
    """
    if not isinstance(study.run.model, DrawConfig):
        raise UserError(f"variants are DRAW's, but {study.run.recipe} is of another model")
    known = list(ablation.titles())
    for name in study.variants:
        choose("variant", name, known)
    runs, left = {BASELINE: study.run}, {}
    for name in study.variants or known:
        try:
            run = getattr(variants, name)(study.run)
        except UserError as why:
            if study.variants:
                raise UserError(f"variant {name}: {why}") from why
            left[name] = str(why)
            continue
        if run == study.run and name != BASELINE:
            left[name] = "it is the baseline"
        else:
            runs[name] = run
    return runs, left


# ---- the study ----------------------------------------------------------------------------------


def pursue(study: Study) -> bool:
    """Run what is not finished yet, then write the table; False if stopped by Ctrl-C or SIGTERM.

    UserError: an invalid study, a folder that holds another, or runs that failed (all others are
    finished then, and in the table).
    """
    runs, left = planned(study)
    for name, why in left.items():
        print(f"{name} is left out: {why}")
    with (
        locked(study.folder),
        hired(study.on, study.folder, study.jobs, study.cores) as workers,
        interruptible() as stopped,
    ):
        agree(study)
        failed = run_jobs(study, timings(study, runs), workers, stopped)
        names = [name for name in runs if (study.budget.images or rate_file(study, name).exists())]
        chosen = {name: runs[name] for name in names}
        failed |= run_jobs(study, trainings(study, chosen), workers, stopped)
        table.write(study.folder, study.split, results(study), left, failed)
    if stopped:
        print(f"stopped by {stopped[0]}; the same command resumes")
        return False
    if failed:
        raise UserError(
            f"{len(failed)} failed: " + "; ".join(f"{k}: {v}" for k, v in failed.items())
        )
    return True


def agree(study: Study) -> None:
    """Write study.json, or raise UserError if the folder holds another study."""
    path, head = study.folder / "study.json", Head(**asdict(study.budget), run=study.run)
    there = schema.read(path, Head) if path.exists() else head
    if there != head:
        what = difference(there.values(), head.values())
        raise UserError(f"{study.folder} holds another study ({what}): choose another --out")
    write_text(path, json.dumps(head.values(), indent=1) + "\n")


def rate_file(study: Study, name: str) -> Path:
    return study.folder / "rates" / f"{name}.json"


def timings(study: Study, runs: dict[str, Run[Any]]) -> Iterator[tuple[str, Job]]:
    """Yield jobs that measure the variants' training speed, where it is needed and unknown."""
    for name, run in runs.items():
        if study.budget.minutes and not (path := rate_file(study, name)).exists():
            yield f"{name}'s speed", Job(run, str(path), study.budget.minutes)


def trainings(study: Study, runs: dict[str, Run[Any]]) -> Iterator[tuple[str, Job]]:
    """Yield jobs for the runs that are not finished, all variants of a seed before the next seed."""
    for seed in range(study.seeds):
        for name, run in runs.items():
            examples = study.budget.images or schema.read(rate_file(study, name), Rate).examples
            path = study.folder / f"{name}-seed{seed}" / f"{study.split}.json"
            if not path.exists():
                job = budgeted(replace(run, seed=seed), examples)
                yield path.parent.name, Job(job, str(path))


def results(study: Study) -> list[Result]:
    """Return the results of the finished runs, in the order of the variants and seeds."""
    names = list(ablation.titles())
    found = [
        replace(schema.read(path, Result), variant=name, seed=int(seed))
        for name in names
        for path in study.folder.glob(f"{name}-seed*/{study.split}.json")
        if (seed := path.parent.name.rpartition("-seed")[2]).isdecimal()
    ]
    return sorted(found, key=lambda r: (names.index(r.variant), r.seed))


def run_jobs(
    study: Study, jobs: Iterable[tuple[str, Job]], workers: Workers, stopped: list[str]
) -> dict[str, str]:
    """Have the workers do all jobs, or stop them; return the failures by name."""
    waiting, failed, running = list(jobs), dict[str, str](), dict[str, Job]()
    total = len(waiting)
    while (waiting and not stopped) or running:
        while waiting and not stopped and len(running) < (study.jobs or workers.jobs):
            name, job = waiting.pop(0)
            folder = str(study.data_dir) if study.data_dir else None
            job = replace(job, data_dir=folder, split=study.split, device=study.device)
            workers.start(name, job)
            running[name] = job
        if stopped:
            workers.stop()
        for name, why in workers.ended():
            job = running.pop(name)
            if Path(job.out).exists():
                done = total - len(waiting) - len(running)
                print(f"[{done}/{total}] {name}: {brief(job.read())}", flush=True)
            elif not stopped:
                failed[name] = why or last_line(log_file(job))
        time.sleep(0.1)
    return failed
