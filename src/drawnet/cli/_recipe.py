"""The run of a recipe that looks at the data before its options are parsed."""

import contextlib
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import tyro

from drawnet import recipes
from drawnet.cli._shared import RULES, DataDir, current
from drawnet.data import Dataset
from drawnet.data.config import Data
from drawnet.training import distributed
from drawnet.training.config import Run


@dataclass(frozen=True)
class Named:
    """The arguments that name data."""

    data: Data
    data_dir: DataDir = None


class Looked(NamedTuple):
    """Data that a recipe has looked at, and the settings with which they were loaded."""

    settings: Data
    data: Dataset


def recipe_run(name: str, arguments: Sequence[str]) -> tuple[Run[Any], Looked | None]:
    """Return a recipe's run, before its options are parsed, and the data if it looked at them."""
    run, choose_run = recipes.get(name), recipes.chooser(name)
    if choose_run is None or {"-h", "--help"} & set(arguments):
        return run, None
    named = _named(Named(Data(run.data.name)), arguments)
    if named is None or named.data.name == run.data.name:
        return run, None
    run, data, lines = choose_run(named.data, named.data_dir)
    if distributed.is_main():
        print("\n".join(lines), file=sys.stderr)
    # Options of the data come from the arguments: tyro would make a flag of each that is in the default.
    return replace(run, data=replace(run.data, options={})), Looked(run.data, data)


def _named(default: Named, arguments: Sequence[str]) -> Named | None:
    """Parse the arguments that name data, among others; None if they are invalid, which `parse` says."""
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
