"""Build one page of many records: `python tools/results.py docs/records --out docs/results.md`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from drawnet.cli import guarded
from drawnet.cli._shared import parse, suffix
from drawnet.errors import check_folder, check_targets


@dataclass(frozen=True)
class Results:
    """Build a page of many records: a table, and for each its command, machine, charts and pictures."""

    record: tyro.conf.Positional[tuple[Path, ...]] = (Path("docs/records"),)
    """Records, or folders of them."""
    out: Path | None = None
    """Write the page there (.md) instead of printing the table, and charts into a folder next to it,
    whose pictures NAME.png, NAME-….png the page shows too."""


def main(arguments: Sequence[str]) -> None:
    command = parse(Results, "tools/results.py", arguments)
    import records

    suffix(command.out, [".md"])
    check_targets(command.out)
    if command.out:
        check_folder(command.out.with_suffix(""))
    found = records.read(command.record)
    if command.out:
        records.write(found, command.out)
        print(command.out)
    else:
        print(records.table(found), end="")


if __name__ == "__main__":
    guarded(main, sys.argv[1:])
