"""A job of a study: measure a variant's speed, or train a run and measure it; in its own process."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from drawnet.ablation.table import Result
from drawnet.data import Dataset
from drawnet.errors import UserError, schema, write_text
from drawnet.errors.schema import PathText, Positive, PositiveInt
from drawnet.training.checkpoint import load_model
from drawnet.training.config import Run, to_json
from drawnet.training.state import Progress


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

    def to_json(self) -> str:
        return json.dumps(vars(self) | {"run": to_json(self.run)})

    @classmethod
    def from_json(cls, text: str) -> "Job":
        return schema.convert(schema.parse(text, "the job"), cls, "the job")


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


# ---- its process --------------------------------------------------------------------------------


def start(job: Job, cores: int, cwd: Path | None = None) -> "subprocess.Popen[bytes]":
    """Start a process that does the job and ends when its standard input does, whatever ends this one.

    It has its own session: a terminal's Ctrl-C reaches only this process, which passes it on once.
    """
    log = log_file(job)
    log.parent.mkdir(parents=True, exist_ok=True)
    settings = {"OMP_NUM_THREADS": str(cores), "TQDM_MININTERVAL": "60"}
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "drawnet.ablation.jobs", job.to_json()],
            cwd=cwd,
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
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


if __name__ == "__main__":
    try:
        work(Job.from_json(sys.argv[1]))
    except UserError as what:
        sys.exit(f"drawnet: {what}")
