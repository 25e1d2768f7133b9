"""What a training says while it runs."""

import contextlib
import io
import sys

from tqdm import tqdm

from drawnet.training import distributed


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
