"""The ablation study: variants × seeds of a DRAW recipe under one budget, each in its own process.

    study.json              the recipe and the budget
    rates/VARIANT.json      the variant's training speed, if the budget is in minutes
    VARIANT-seedS/          an ordinary run, and its result in SPLIT.json
    table.md .json .svg     see `table.py`

These files hold the whole state, so that an interrupted study resumes.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from drawnet import ablation
from drawnet.ablation import table, variants
from drawnet.ablation.table import Result
from drawnet.data import Dataset
from drawnet.errors import UserError, choose, schema, threads, write_text
from drawnet.errors.schema import PathText, Positive, PositiveInt
from drawnet.models.draw import DrawConfig
from drawnet.training.checkpoint import load_model
from drawnet.training.config import Run, to_json
from drawnet.training.run_dir import interruptible, locked
from drawnet.training.state import Progress, difference

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


@dataclass(frozen=True)
class Rate:
    """A variant's training speed: rates/VARIANT.json."""

    images_per_second: Positive
    examples: PositiveInt
    """Of a run, by the budget."""


@dataclass(frozen=True)
class Job:
    """What a process of a study does, and where it writes what it has found."""

    run: Run[Any]
    out: PathText
    minutes: Positive | None = None
    """The budget of a run whose speed is to be measured; None: train it."""
    data_dir: PathText | None = None
    split: str = "valid"
    device: str = "cpu"

    def read(self) -> Rate | Result:
        """Read what the job has written."""
        path = Path(self.out)
        return schema.read(path, Rate) if self.minutes else schema.read(path, Result)


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
    jobs: int = 1
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


def budgeted(run: Run[Any], examples: int) -> Run[Any]:
    """Return the run limited to this many examples, with its schedule and warm-ups shortened to fit."""
    return replace(
        run,
        examples=examples,
        warmup=min(run.warmup, examples // 10),
        kl_warmup=min(run.kl_warmup, examples // 4),
        evaluate_every=max(1, examples // 5),
        save_every=min(run.save_every, max(run.batch, examples // 20)),
    )


# ---- the study ----------------------------------------------------------------------------------


def pursue(study: Study) -> bool:
    """Run what is not finished yet, then write the table; False if stopped by Ctrl-C or SIGTERM.

    UserError: an invalid study, a folder that holds another, or runs that failed (all others are
    finished then, and in the table).
    """
    runs, left = planned(study)
    for name, why in left.items():
        print(f"{name} is left out: {why}")
    with locked(study.folder), interruptible() as stopped:
        agree(study)
        failed = run_jobs(study, timings(study, runs), stopped)
        names = [name for name in runs if (study.budget.images or rate_file(study, name).exists())]
        failed |= run_jobs(study, trainings(study, {n: runs[n] for n in names}), stopped)
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
        what = difference(values(there), values(head))
        raise UserError(f"{study.folder} holds another study ({what}): choose another --out")
    write_text(path, json.dumps(values(head), indent=1) + "\n")


def values(of: Head | Job) -> dict[str, Any]:
    """Return JSON values of what holds a run."""
    return {"run": to_json(of.run)} | {k: v for k, v in vars(of).items() if k != "run"}


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


def run_jobs(study: Study, jobs: Iterable[tuple[str, Job]], stopped: list[str]) -> dict[str, str]:
    """Run `study.jobs` jobs at a time until all are done or stopped; return the failures by name."""
    waiting, failed = list(jobs), dict[str, str]()
    running: dict[str, tuple[subprocess.Popen[bytes], Job]] = {}
    cores = threads() or os.cpu_count() or 1
    total, share = len(waiting), max(1, cores // study.jobs)
    while (waiting and not stopped) or running:
        while waiting and not stopped and len(running) < study.jobs:
            name, job = waiting.pop(0)
            folder = str(study.data_dir) if study.data_dir else None
            job = replace(job, data_dir=folder, split=study.split, device=study.device)
            running[name] = start(job, share), job
        if stopped:
            for process, _ in running.values():
                close_stdin(process)
        for name, (process, job) in list(running.items()):
            if process.poll() is None:
                continue
            close_stdin(process)
            del running[name]
            if Path(job.out).exists():
                done = total - len(waiting) - len(running)
                print(f"[{done}/{total}] {name}: {brief(job.read())}", flush=True)
            elif not stopped:
                failed[name] = last_line(log_file(job))
        time.sleep(0.1)
    return failed


def brief(found: Rate | Result) -> str:
    """Summarise a result in a few words."""
    if isinstance(found, Result):
        return f"{found.measures['nats'].mean:.2f} nats, {found.examples} examples"
    return f"{found.images_per_second:.0f} images a second: {found.examples} examples"


def log_file(job: Job) -> Path:
    return Path(job.out).with_suffix(".log")


def last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").split("\n") if path.exists() else []
    text = [line.strip() for line in lines if line.strip()]
    return f"{text[-1] if text else 'it ended without output'} ({path})"


# ---- a job, in its own process -------------------------------------------------------------------


def start(job: Job, share: int) -> "subprocess.Popen[bytes]":
    """Start a process that does the job and ends when its standard input does, whatever ends this one.

    It has its own session: a terminal's Ctrl-C reaches only this process, which passes it on once.
    """
    log = log_file(job)
    log.parent.mkdir(parents=True, exist_ok=True)
    settings = {"OMP_NUM_THREADS": str(share), "TQDM_MININTERVAL": "60"}
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "drawnet.ablation.study", json.dumps(values(job))],
            env=os.environ | settings,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def close_stdin(process: "subprocess.Popen[bytes]") -> None:
    """Close a process's standard input, which stops it if it is still running."""
    assert process.stdin
    with contextlib.suppress(OSError):
        process.stdin.close()


def work(job: Job) -> None:
    """Do a job until standard input ends, then stop as by SIGTERM."""

    def follow() -> None:
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()
    run, out = job.run, Path(job.out)
    data = run.data.load(Path(job.data_dir) if job.data_dir else None)
    if job.minutes:
        found: Rate | Result | None = timed(run, data, job.minutes, job.device)
    else:
        found = trained(run, data, out.parent, job.split, job.device)
    if found is not None:
        write_text(out, json.dumps(asdict(found), indent=1) + "\n")


def timed(run: Run[Any], data: Dataset, minutes: float, device: str = "cpu") -> Rate | None:
    """Measure the run's training speed and the number of examples in this many processor minutes.

    On an accelerator minutes are those of the clock.  Measured over a twentieth of the budget, 20
    seconds at most, after a few warm-up steps.
    """
    from drawnet.training.loop import train

    seconds, examples, rate = min(20.0, 3.0 * minutes), 4 * run.batch, 0.0
    for _ in range(2):
        short = replace(
            budgeted(run, examples),
            evaluate_every=examples,
            save_every=examples,
            validation_images=1,
        )
        with tempfile.TemporaryDirectory() as scratch:
            progress = train(short, data, Path(scratch), device=device)
        if progress.examples_seen < examples:
            return None
        rate = speed(progress, device)
        examples = max(1, round(rate * seconds / run.batch)) * run.batch
    examples = max(1, round(rate * 60 * minutes / run.batch)) * run.batch
    return Rate(rate, examples)


def speed(progress: Progress, device: str) -> float:
    """Return examples per processor second, on an accelerator per second of the clock."""
    seconds = progress.cpu_seconds if device == "cpu" else progress.seconds
    return progress.examples_seen / seconds


def trained(
    run: Run[Any], data: Dataset, folder: Path, split: str, device: str = "cpu"
) -> Result | None:
    """Train or resume, and measure the best weights over a whole split; None if stopped early."""
    from drawnet.data.pipeline import View
    from drawnet.evaluation.likelihood import measure, summary
    from drawnet.training.loop import train

    wait_for_lock(folder)
    progress = train(run, data, folder, resume=True, device=device)
    if progress.examples_seen < run.examples:
        return None
    model = load_model(folder, device=device)
    view = View(data, split, model.run.data.binarise)
    return Result(
        dataset=data.name,
        split=split,
        images=len(view),
        measures=summary(measure(model.network, view)),
        examples=progress.examples_seen,
        best_at=model.header.examples or 0,
        skipped=progress.skipped,
        parameters=sum(p.numel() for p in model.network.parameters()),
        cpu_seconds=progress.cpu_seconds,
        images_per_second=speed(progress, device),
    )


def wait_for_lock(folder: Path) -> None:
    """Wait until a process left behind by a killed study has released the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        pass


if __name__ == "__main__":
    try:
        work(schema.convert(schema.parse(sys.argv[1], "the job"), Job, "the job"))
    except UserError as what:
        sys.exit(f"drawnet: {what}")
