"""The run whose settings are the defaults of `train`'s options, known before they are parsed."""

import contextlib
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from drawnet import recipes
from drawnet.cli._shared import RULES, DataDir, current
from drawnet.data import Dataset, manifest
from drawnet.data.config import Data
from drawnet.errors import expand
from drawnet.training import checkpoint, distributed, state
from drawnet.training.config import Run


@dataclass(frozen=True)
class Named:
    """The arguments that name data, a run folder and weights."""

    data: Data
    data_dir: DataDir = None
    out: Path | None = None
    resume: bool = False
    init: str = ""


class Defaults(NamedTuple):
    """A run, and what it was taken from.

    data  images that a recipe has looked at, and the settings with which they were loaded
    held  the checkpoint that --resume goes on with
    """

    run: Run[Any]
    data: tuple[Data, Dataset] | None = None
    held: state.Header | None = None

    @property
    def plain(self) -> Run[Any]:
        """The run without options of its data: tyro would make a flag of each in the default."""
        return replace(self.run, data=replace(self.run.data, options={}))

    def load(self, run: Run[Any], data_dir: Path | None) -> tuple[Run[Any], Dataset]:
        """Load the data of a run whose options have been parsed; return it with their place."""
        if self.data and self.data[0] == run.data:
            return run, self.data[1]
        settings = run.data
        if self.held:
            before = self.held.run.data
            name = None if settings.name == before.name else settings.name
            settings = manifest.locate(settings, self.held.data, name)
        if self.held or settings.name == self.run.data.name:
            settings = replace(settings, options=settings.options or self.run.data.options)
        return replace(run, data=settings), settings.load(data_dir)


def defaults(name: str, arguments: Sequence[str]) -> Defaults:
    """Return the run in a folder that --resume goes on with, else a recipe's: by its look at the data,
    with the model of the weights that --init names.
    """
    run, choose_run = recipes.get(name), recipes.chooser(name)
    if {"-h", "--help"} & set(arguments):
        return Defaults(run)
    named = _named(Named(Data(run.data.name)), arguments)
    if named is None:
        return Defaults(run)
    if named.resume and (held := state.held(expand(named.out or Path("runs") / name))):
        return Defaults(replace(held.run, recipe=name, precision="auto"), held=held)
    looked = None
    if choose_run and named.data.name != run.data.name:
        run, data, lines = choose_run(named.data, named.data_dir)
        looked = run.data, data
        if distributed.is_main():
            print("\n".join(lines), file=sys.stderr)
    if named.init:
        path = checkpoint.located(expand(named.init))
        given = checkpoint.Header.read(checkpoint.load_header(path), path)
        run = replace(run, model=given.run.model)
    return Defaults(run, looked)


def _named(default: Named, arguments: Sequence[str]) -> Named | None:
    """Parse the arguments of `Named`, among others; None if they are invalid, which `parse` says."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        found, _ = tyro.cli(
            Named,
            args=current(arguments),
            default=default,
            config=(tyro.conf.FlagCreatePairsOff,),
            registry=RULES,
            return_unknown_args=True,
        )
        return found
    return None
