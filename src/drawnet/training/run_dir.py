"""A run's folder and process: its lock, its metrics, and the signals that stop it.

model.safetensors      the best weights on the validation images so far
training.safetensors   all that is needed to resume
metrics.jsonl          a line every few steps
samples/               a sample grid at every evaluation
"""

import fcntl
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from drawnet.errors import UserError, check_target, check_utf8, write_text
from drawnet.training import distributed


def open_metrics(path: Path, examples_seen: int) -> IO[str]:
    """Open metrics.jsonl without the lines beyond the checkpoint's position."""
    lines = []
    check_target(path)
    for line in (
        path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    ):
        try:
            if json.loads(line)["examples"] <= examples_seen:
                lines.append(line + "\n")
        except (ValueError, KeyError, TypeError):  # truncated by a kill
            continue
    write_text(path, "".join(lines))
    return path.open("a", encoding="utf-8")


def open_board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as why:
        raise UserError("--tensorboard needs an extra: pip install 'drawnet[tensorboard]'") from why
    return SummaryWriter(str(folder / "tensorboard"))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while training there; UserError if another process holds it."""
    if distributed.rank():
        yield
        return
    check_utf8(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = check_target(folder / ".lock").open("w")
    except OSError as why:
        raise UserError(f"{folder} cannot be a run folder: {why.strerror}") from why
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as why:
            raise UserError(f"{folder} is in use by another process; choose another --out") from why
        yield


@contextmanager
def interruptible() -> Iterator[list[str]]:
    """Yield a list that receives the name of a signal to stop; a second one interrupts."""
    received: list[str] = []

    def note(number: int, _frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(signal.Signals(number).name)

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
