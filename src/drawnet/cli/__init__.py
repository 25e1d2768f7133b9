"""The command line: `drawnet COMMAND …` runs the file of that name in `cli/`.

An error that the user can fix is a `UserError`: one line, exit status 2.
"""

import contextlib
import errno
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType

from drawnet import __version__
from drawnet.cli import catalogue
from drawnet.errors import UserError, choose, one_line, outside, threads

HELP = """\
usage: drawnet COMMAND [OPTIONS]   (`drawnet COMMAND --help` shows them)

{commands}

RUN: a folder that `train` wrote, a .safetensors file or the name of a model.
`drawnet --import FILE.py COMMAND …`: with models and data sets of your own.
"""
VARIABLES = ("DRAWNET_DATA", "DRAWNET_KERNELS")


def overview() -> str:
    """Return the help: all commands, grouped by what people want."""
    return HELP.format(commands=catalogue.overview())


def command(name: str) -> ModuleType:
    """Import the file of a command; UserError with the closest name if there is none."""
    return importlib.import_module(f"drawnet.cli.{choose('command', name, catalogue.commands())}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: exit status 0, 2 for a UserError, 130 for a run stopped early."""
    guarded(_dispatch, sys.argv[1:] if arguments is None else arguments)


def _dispatch(words: Sequence[str]) -> None:
    check_environment()
    if words and words[0] == "--import":
        if len(words) < 2:
            raise UserError("--import needs a module, or a file (.py), with your model or data")
        outside.imported_module(words[1])
        words = words[2:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview(), end="")
    elif words[0] == "--version":
        print(f"drawnet {__version__}")
    else:
        command(words[0]).main(words[1:])


def check_environment() -> None:
    """Raise UserError for variables without sense, before libraries take them for what they want."""
    threads()
    for name in os.environ:
        if name.startswith("DRAWNET_"):
            choose("environment variable of drawnet", name, VARIABLES)


def _say(message: object, *_: object, **__: object) -> None:
    """Write a line to standard error, if there is one."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"drawnet: {one_line(message)}\n")
        sys.stderr.flush()


class _Closed(io.TextIOBase):
    """Standard output of a process that was started without one."""

    def write(self, _: str) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def guarded(function: Callable[[Sequence[str]], None], words: Sequence[str]) -> None:
    """Run a command; print a UserError as one line and exit with status 2."""
    notes: set[str] = set()

    def note(message: Warning | str, *_: object, **__: object) -> None:
        """Write a warning, once: data may be looked at twice."""
        if str(message) not in notes:
            notes.add(str(message))
            _say(message)

    warnings.showwarning = note
    sys.stdout = sys.stdout or _Closed()
    sys.stderr = sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 shows question marks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        function(words)
        sys.stdout.flush()
    except UserError as what:
        _say(what)
        sys.exit(2)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as why:
        if why.filename is not None:  # a file that was sound when it was checked
            _say(f"{why.filename}: {why.strerror}")
        else:
            _say(f"standard output could not be written: {why.strerror}")
            sys.stdout = None  # what it still holds cannot be written either
        sys.exit(2)
