"""The command line: `drawnet COMMAND …` runs the file of that name in `cli/`.

What the user can mend is a `UserError`: one line, exit status 2.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from drawnet import __version__
from drawnet.cli import catalogue
from drawnet.errors import UserError, choose

HELP = """\
usage: drawnet COMMAND [OPTIONS]

  train RECIPE           train a model (Ctrl-C keeps a checkpoint, --resume goes on)
  evaluate RUN           the bound on held-out images, rate and distortion apart
  sample RUN             draw images: a sheet, a film, the stages, the raw numbers
  reconstruct RUN IMAGE… read pictures and draw them again
  classify RUN [IMAGE…]  name what pictures show, and film where the model looks
  compare RUN…           one table over runs: bounds, Parzen, Fréchet, samples a second
  ablate RECIPE          what each part of DRAW is worth: variants under one budget, in a table
  demo [RUN…]            watch models draw, in the browser
  fetch DATASET          download a data set from its official address
  list                   models, data sets and recipes

RUN is a folder that `train` wrote, a .safetensors file or the name of weights that come with drawnet.
`drawnet COMMAND --help` shows a command's options.
"""


def command(name: str) -> ModuleType:
    """The file of a command; UserError with the nearest name if there is none."""
    return importlib.import_module(f"drawnet.cli.{choose('command', name, catalogue.commands())}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: exit status 0, 2 for what the user can mend, 130 for a run stopped early."""
    guarded(_dispatch, sys.argv[1:] if arguments is None else arguments)


def _dispatch(words: Sequence[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
    elif words[0] == "--version":
        print(f"drawnet {__version__}")
    else:
        command(words[0]).main(words[1:])


def guarded(function: Callable[[Sequence[str]], None], words: Sequence[str]) -> None:
    """Run a command; what the user can mend ends in one line and exit status 2."""
    try:
        function(words)
    except UserError as what:
        print(f"drawnet: {what}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("drawnet: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
