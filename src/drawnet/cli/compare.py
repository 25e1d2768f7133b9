"""Compare runs in one table."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from drawnet.cli._shared import DataDir, DataName, Device, outputs, parse, suffix
from drawnet.errors import write_text


@dataclass(frozen=True)
class Compare:
    """Compare runs in one table; a footnote says why a measure does not apply to a model."""

    run: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Run folders, .safetensors files or names of bundled weights."""
    samples: int = 10_000
    """Number of samples per model, for Parzen, Fréchet and the error of samples."""
    images: int = 10_000
    """Maximum number of test images, evenly spaced over the split."""
    importance_samples: int | None = None
    """K of the K-sample bound; default: no such bound."""
    classifier: Path | None = None
    """A classifier trained by drawnet; default: one trained on the real images, once, and cached."""
    training_images: bool = False
    """Also measure as many training images, as if they were samples."""
    seed: int = 0
    out: Path | None = None
    """Also write the table to this file (.md, .json)."""
    device: Device = "auto"
    data_name: DataName = None
    data_dir: DataDir = None


def main(arguments: Sequence[str]) -> None:
    command = parse(Compare, "compare", arguments)
    from drawnet.data import Dataset, manifest, names
    from drawnet.evaluation.compare import Plan, page, rows, values
    from drawnet.training.config import Run

    suffix(command.out, [".md", ".json"])
    outputs(command.out, models=command.run, files=[f for f in [command.classifier] if f])
    numbers = command.samples, command.images, command.importance_samples, command.seed
    plan = Plan(*numbers, command.training_images)

    def opened(run: Run[Any], then: manifest.Manifest | None) -> Dataset:
        name = None if run.data.name in names() else command.data_name
        data = manifest.load(run.data, then, command.data_dir, name)
        manifest.say_changes(then, data)
        return data

    found = rows(
        command.run,
        opened,
        plan,
        command.classifier,
        progress=sys.stderr.isatty(),
        device=command.device,
    )
    text = page(found, plan)
    if command.out:
        as_json = json.dumps(values(found, plan), indent=1) + "\n"
        write_text(command.out, text if command.out.suffix == ".md" else as_json)
    print(text, end="")
