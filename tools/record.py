"""Write a run's record: `python tools/record.py RUN FILE… --out RECORD`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from drawnet.cli import guarded
from drawnet.cli._shared import outputs, parse, suffix
from drawnet.errors import write_together


@dataclass(frozen=True)
class Record:
    """Write a run's record from its folder and from files that `evaluate --out` wrote."""

    run: tyro.conf.Positional[Path]
    """A run folder or a .safetensors file."""
    evaluation: tyro.conf.Positional[tuple[Path, ...]] = ()
    out: Path = Path("record.json")
    commit: str | None = None
    """The commit that trained it, in place of the one recorded in the weights."""
    processor: str | None = None
    """The processor that trained it, likewise."""
    before: Path | None = None
    """The record of the run whose weights this one began from (`--init`)."""
    weights: Path | None = None
    """Also write the weights there (.safetensors), rounded to bfloat16 (half the size), and next to
    them (.json) the record, with their results on embedded digits."""


def main(arguments: Sequence[str]) -> None:
    command = parse(Record, "tools/record.py", arguments)
    import records
    from drawnet.training import checkpoint

    suffix(command.out, [".json"])
    suffix(command.weights, [".safetensors"])
    card = command.weights and command.weights.with_suffix(".json")
    files = [*command.evaluation, *([command.before] if command.before else [])]
    outputs(command.out, command.weights, card, models=[command.run], files=files)
    known = {"commit": command.commit, "processor": command.processor}
    record = records.build_record(command.run, command.evaluation, command.before, **known)
    contents = {command.out: record.text().encode()}
    if command.weights and card:
        tensors, header = records.rounded(command.run)
        network = checkpoint.load_model(command.run).network
        checkpoint.put(network, tensors, command.run)
        contents |= {
            command.weights: checkpoint.serialise(tensors, header),
            card: replace(record, check=records.check(network)).text().encode(),
        }
    write_together(contents)
    print("\n".join(map(str, contents)))


if __name__ == "__main__":
    guarded(main, sys.argv[1:])
