"""What a training says while it runs: a bar on a terminal, a widget in a notebook, else lines."""

import contextlib
import io
import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from drawnet.training import distributed

EVERY = 30.0
"""Seconds between the lines that stand for the bar where there is neither terminal nor notebook."""


class Console(io.TextIOBase):
    """Standard error, whose loss does not end a training: a closed terminal, a full disk."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()

    def isatty(self) -> bool:
        return bool(sys.stderr) and not sys.stderr.closed and sys.stderr.isatty()

    def fileno(self) -> int:
        return sys.stderr.fileno()


def say(line: str) -> None:
    """Write a line to standard error, above the progress bar; of several processes, one does."""
    if distributed.is_main():
        tqdm.write(line, file=Console())


def log(line: str) -> None:
    """Write a line to standard error where no bar shows how far a training is."""
    if not (notebook() or Console().isatty()):
        say(line)


def notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    return "ipykernel.zmqshell" in sys.modules


def progress(name: str, total: int, done: int, *, shown: bool = True) -> Any:
    """Return what shows that so many of the examples are done, with tqdm's methods."""
    options: dict[str, Any] = {"desc": name, "total": total, "initial": done, "unit": "image"}
    if notebook():
        from tqdm import auto

        return auto.tqdm(**options, disable=not shown)
    if not shown or Console().isatty():
        return tqdm(**options, disable=not shown, dynamic_ncols=True, file=Console())
    return Lines(name, total, done)


class Lines:
    """Progress as a line every half minute, for logs."""

    def __init__(self, name: str, total: int, done: int) -> None:
        self.name, self.total, self.first, self.done = name, total, done, done
        self.values: Mapping[str, str] = {}
        self.start = self.last = time.monotonic()
        say(f"{name}: begins at {done:,} of {total:,} examples")

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set_postfix(self, values: Mapping[str, str]) -> None:
        """Set what the next lines say besides the position."""
        self.values = values

    def update(self, n: int) -> None:
        """Count n more examples, and write a line if it is time."""
        self.done += n
        now = time.monotonic()
        if now - self.last < EVERY:
            return
        self.last = now
        rate = max(1e-9, (self.done - self.first) / (now - self.start))
        left = tqdm.format_interval((self.total - self.done) / rate)
        values = "".join(f", {name} {value}" for name, value in self.values.items())
        say(
            f"{self.name}: {self.done:,} of {self.total:,} examples ({self.done / self.total:.0%}), "
            f"{rate:,.0f}/s, {left} left{values}"
        )
