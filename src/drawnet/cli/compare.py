"""One table over runs."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from drawnet.cli._shared import DataDir, parse, suffix


@dataclass(frozen=True)
class Compare:
    """One table over runs, of what each model allows to be measured; a dash says why it does not."""

    run: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Run folders, .safetensors files or the names of weights that come with drawnet."""
    samples: int = 10_000
    """How many each model draws, for Parzen, Fréchet and the error of samples."""
    images: int = 10_000
    """How many test images at most, evenly spread over them."""
    importance_samples: int | None = None
    """K of the K-sample bound; left out unless given."""
    classifier: Path | None = None
    """One that drawnet trained; left out: one of the real images, trained once and kept in the cache."""
    seed: int = 0
    out: Path | None = None
    """Also write the table to this file (.md, .json)."""
    data_dir: DataDir = None


def main(arguments: Sequence[str]) -> None:
    command = parse(Compare, "compare", arguments)
    from drawnet.evaluation.compare import Plan, page, rows, values
    from drawnet.training import checkpoint

    suffix(command.out, [".md", ".json"])
    plan = Plan(command.samples, command.images, command.importance_samples, command.seed)
    found = rows(
        command.run,
        lambda run: run.data.load(command.data_dir),
        plan,
        command.classifier,
        progress=sys.stderr.isatty(),
    )
    text = page(found, plan)
    if command.out:
        as_json = json.dumps(values(found, plan), indent=1) + "\n"
        checkpoint.write_text(command.out, text if command.out.suffix == ".md" else as_json)
    print(text, end="")
