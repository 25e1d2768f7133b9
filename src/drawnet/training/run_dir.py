"""A run's folder and process: its lock, its metrics, and the signals that stop it.

model.safetensors      the best weights on the validation images so far
training.safetensors   all that is needed to resume
metrics.jsonl          a line every few steps
samples/               a sample grid at every evaluation
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from drawnet.errors import UserError, check_target, check_utf8, reason, schema, write_text
from drawnet.errors.schema import NonNegative, NonNegativeInt
from drawnet.training import distributed


@dataclass(frozen=True)
class Metrics:
    """A line of metrics.jsonl."""

    examples: NonNegativeInt
    """Training examples seen."""
    seconds: NonNegative = 0.0
    cpu_seconds: NonNegative = 0.0
    values: dict[str, float] = field(default_factory=dict)
    """In the file, beside the others."""

    @classmethod
    def read(cls, line: bytes, where: object) -> "Metrics":
        """Convert a line of the file; UserError, which begins with `where`, for any other."""
        values = schema.convert(schema.parse(line, where), dict[str, Any], where)
        return schema.convert(schema.gathered(values, cls, "values"), cls, where)


def read_metrics(path: Path) -> list[tuple[str, Metrics]]:
    """Read metrics.jsonl, but for a last line that a kill has cut; UserError for any other file."""
    if not path.exists():
        return []
    *whole, last = schema.load(path).split(b"\n")
    if last.startswith(b"{"):
        with contextlib.suppress(UserError):
            Metrics.read(last, path)
            whole.append(last)
    elif last:
        whole.append(last)
    read = [Metrics.read(line, f"{path}, line {n}") for n, line in enumerate(whole, 1)]
    return [(line.decode(), metrics) for line, metrics in zip(whole, read, strict=True)]


def open_metrics(path: Path, examples_seen: int) -> IO[str]:
    """Open metrics.jsonl without the lines beyond the checkpoint's position."""
    check_target(path)
    lines = [f"{line}\n" for line, m in read_metrics(path) if m.examples <= examples_seen]
    write_text(path, "".join(lines))
    return path.open("a", encoding="utf-8")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while training there; UserError if another process holds it."""
    if distributed.rank():
        yield
        return
    check_utf8(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(check_target(folder / ".lock")).acquire(timeout=0)
    except Timeout as why:
        raise UserError(f"{folder} is in use by another process; choose another --out") from why
    except OSError as why:
        raise UserError(f"{folder} cannot be a run folder: {reason(why)}") from why
    with lock:
        yield


@contextmanager
def interruptible() -> Iterator[list[str]]:
    """Yield a list that receives the name of a signal to stop; one a second later interrupts.

    Within that second it is the same request: Slurm and torchrun each pass it on.
    """
    received: list[str] = []
    first = 0.0

    def note(number: int, _frame: object) -> None:
        nonlocal first
        if not received:
            first = time.monotonic()
            received.append(signal.Signals(number).name)
        elif time.monotonic() > first + 1:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread receives signals
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # a closed terminal is SIGHUP; Windows has none
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
