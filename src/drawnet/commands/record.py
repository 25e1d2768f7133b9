"""Write a run's record."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from drawnet.commands._shared import parse


@dataclass(frozen=True)
class Record:
    """Write a run's record from its folder and from files that `evaluate --out` wrote."""

    run: tyro.conf.Positional[Path]
    """A run folder or a .safetensors file."""
    evaluation: tyro.conf.Positional[tuple[Path, ...]] = ()
    out: Path = Path("record.json")
    commit: str | None = None
    """The commit that trained it, where the weights do not say."""
    weights: Path | None = None
    """Also write the weights there (.safetensors), rounded to bfloat16: half the size."""


def main(arguments: Sequence[str]) -> None:
    command = parse(Record, "record", arguments)
    from drawnet import checkpoint, records

    values = records.made(command.run, command.evaluation, command.commit)
    checkpoint.write_text(command.out, json.dumps(values, indent=1) + "\n")
    print(command.out)
    if command.weights:
        records.rounded(command.run, command.weights)
        print(command.weights)
