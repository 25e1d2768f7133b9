"""A run's folder and its process: who may write there, what goes on from where, what stops it.

model.safetensors      the best weights on the validation images so far
training.safetensors   all that is needed to go on
metrics.jsonl          a line every so many steps
samples/               a sheet at every evaluation
"""

import fcntl
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from drawnet.errors import UserError
from drawnet.training import checkpoint, distributed


def open_metrics(path: Path, seen: int) -> IO[str]:
    """metrics.jsonl without the lines that lie after the position of the checkpoint."""
    kept = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            if json.loads(line)["examples"] <= seen:
                kept.append(line + "\n")
        except (ValueError, KeyError):  # cut off in the middle by a kill
            continue
    checkpoint.write_text(path, "".join(kept))
    return path.open("a")


def open_board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as why:
        raise UserError("--tensorboard needs an extra: pip install 'drawnet[tensorboard]'") from why
    return SummaryWriter(str(folder / "tensorboard"))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while training there; UserError if another process does."""
    if distributed.rank():
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
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
    """A list that takes the name of the signal when Ctrl-C or SIGTERM comes; a second one kills."""
    came: list[str] = []

    def note(number: int, _frame: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield came  # signals go to the main thread alone
        return
    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
