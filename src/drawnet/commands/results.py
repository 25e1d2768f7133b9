"""One table of many records."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from drawnet.commands._shared import parse


@dataclass(frozen=True)
class Results:
    """One page of many records: a table, and of each its command, machine and curve."""

    record: tyro.conf.Positional[tuple[Path, ...]] = (Path("docs/records"),)
    """Records, or folders of them."""
    out: Path | None = None
    """Write the page there (.md) instead of printing the table."""


def main(arguments: Sequence[str]) -> None:
    command = parse(Results, "results", arguments)
    from drawnet import checkpoint, records

    found = records.read(command.record)
    if command.out:
        checkpoint.write_text(command.out, records.page(found))
        print(command.out)
    else:
        print(records.table(found), end="")
