"""One table of many records."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from drawnet.commands._shared import parse


@dataclass(frozen=True)
class Results:
    """One page of many records: a table, and of each its command, machine, charts and pictures."""

    record: tyro.conf.Positional[tuple[Path, ...]] = (Path("docs/records"),)
    """Records, or folders of them."""
    out: Path | None = None
    """Write the page there (.md) instead of printing the table, and charts into a folder beside it,
    whose own pictures NAME.png, NAME-….png the page shows."""


def main(arguments: Sequence[str]) -> None:
    command = parse(Results, "results", arguments)
    from drawnet import records

    found = records.read(command.record)
    if command.out:
        records.write(found, command.out)
        print(command.out)
    else:
        print(records.table(found), end="")
