"""Where the nats go: `python tools/nats.py --out docs/nats.md`.

The test bound of a model, image by image, taken apart:

    test bound = K-sample bound                     about -log p(x), from above
               + (test bound - refined bound)       amortisation: one encoder for all images
               + (refined bound - K-sample bound)   the rest: q is Gaussian, refinement has an end
    training bound + generalisation = test bound

What is measured is kept batch by batch in --work; the same command continues where it was stopped.
"""

import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from drawnet import weights
from drawnet.cli import guarded
from drawnet.cli._shared import DataDir, parse, suffix
from drawnet.data import subsample_indices
from drawnet.data.pipeline import View
from drawnet.errors import UserError, check_folder, choose, schema, write_bytes, write_text
from drawnet.errors.schema import ImportanceSamples, PositiveInt
from drawnet.evaluation.likelihood import batches, is_likelihood, stderr
from drawnet.models.base import Model
from drawnet.models.sequential import StepModel
from drawnet.training import checkpoint, provenance

ROWS = 100
"""Images of a batch: what a stop may cost."""
METRICS = ("nats", "refined", "iw")


@dataclass(frozen=True)
class Nats:
    """Take the test bound of bundled models apart: generalisation, amortisation, the rest."""

    model: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of bundled weights (default: all with a bound and steps)."""
    images: PositiveInt | None = None
    """Use only this many images of each split, evenly spaced (default: as many as test has)."""
    importance_samples: ImportanceSamples = 1000
    refine: PositiveInt = 50
    seed: int = 0
    work: Path = Path("runs/nats")
    """Folder of what is measured."""
    out: Path | None = None
    """Write the page there (.md) as well as printing the table."""
    data_dir: DataDir = None


@dataclass(frozen=True)
class Head:
    """The first line of a file of measurements: all that they depend on."""

    model: str
    weights: str
    data: str
    split: str
    images: PositiveInt
    importance_samples: int
    refine: int
    seed: int


@dataclass(frozen=True)
class Measured:
    """A model's bounds of every image, (n,) float64: of training images the plain bound alone."""

    name: str
    data: str
    train: Tensor
    test: dict[str, Tensor]


def main(arguments: Sequence[str]) -> None:
    command = parse(Nats, "tools/nats.py", arguments)
    schema.check(command)
    suffix(command.out, [".md"])
    check_folder(command.work)
    known = bounded()
    names = command.model or tuple(known)
    found = [measure(known[choose("bundled model", name, known)], command) for name in names]
    print(table(found, command), end="")
    if command.out:
        write_text(command.out, page(found, command))


def bounded() -> dict[str, Path]:
    """Return the bundled weights of models with steps and a likelihood."""
    models = {k: (p, checkpoint.load_model(p, "off").network) for k, p in weights.bundled().items()}
    return {k: p for k, (p, m) in models.items() if isinstance(m, StepModel) and is_likelihood(m)}


def measure(path: Path, command: Nats) -> Measured:
    """Measure a model, or read what is measured of it."""
    model = checkpoint.load_model(path, "auto")
    images = model.run.data.load(command.data_dir)
    count = min(command.images or len(images.splits["test"]), len(images.splits["test"]))
    found = {}
    for split, k, steps in (("train", 0, 0), ("test", command.importance_samples, command.refine)):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        sizes = (min(count, len(images.splits[split])), k, steps, command.seed)
        head = Head(path.stem, digest, images.checksum, split, *sizes)
        some = subsample_indices(len(images.splits[split]), head.images)
        view = View(images, split, model.run.data.binarise, some)
        found[split] = resumed(
            command.work / f"{path.stem}-{split}.jsonl", head, model.network, view
        )
    return Measured(path.stem, images.name, found["train"]["nats"], found["test"])


def resumed(path: Path, head: Head, network: Model, view: View) -> dict[str, Tensor]:
    """Return the metrics of every image of a view; those that the file lacks are measured and added."""
    rows = opened(path, head)
    settings = {"importance_samples": head.importance_samples, "refine": head.refine}
    done = sum(len(row["nats"]) for row in rows)
    name = f"{head.model}, {head.split}"
    with path.open("a") as file, tqdm(total=len(view), initial=done, desc=name) as bar:
        for numbers, metrics in batches(
            network, view, rows=ROWS, skip=done, seed=head.seed, **settings
        ):
            rows.append({k: metrics[k].tolist() for k in METRICS if k in metrics})
            file.write(json.dumps(rows[-1]) + "\n")
            file.flush()
            bar.update(len(numbers))
    return {k: torch.tensor([v for row in rows for v in row[k]]).double() for k in rows[0]}


def opened(path: Path, head: Head) -> list[dict[str, list[float]]]:
    """Return the batches in a file, which begins with this head; a line cut by a stop is dropped.

    UserError for a file of other weights, images or settings.
    """
    whole = schema.load(path).split(b"\n")[:-1] if path.exists() else []
    if not whole:
        whole = [json.dumps(asdict(head)).encode()]
    if schema.convert(schema.parse(whole[0], path), Head, path) != head:
        raise UserError(f"{path} is of other weights, images or settings: name another --work")
    write_bytes(path, b"\n".join([*whole, b""]))
    kind = dict[str, list[float]]
    return [schema.convert(schema.parse(line, path), kind, path) for line in whole[1:]]


# ---- the table ----------------------------------------------------------------------------------


def plus_minus(values: Tensor) -> str:
    """Format the mean of (n,) with its standard error."""
    return f"{values.mean().item():,.2f} ± {stderr(values) or 0:.2f}"


def difference(a: Tensor, b: Tensor) -> str:
    """Format the difference of the means of different images, with its standard error."""
    error = math.hypot(stderr(a) or 0, stderr(b) or 0)
    return f"{(a.mean() - b.mean()).item():,.2f} ± {error:.2f}"


def table(found: Sequence[Measured], command: Nats) -> str:
    """Format the table in Markdown, nats per image."""
    heads = ["model", "data", "images", "training bound", "test bound"]
    heads += [f"refined, {command.refine} steps", f"K = {command.importance_samples:,}"]
    heads += [
        "generalisation",
        "amortisation, at least",
        "rest of the gap, at least",
        "left, at most",
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for m in found:
        nats, refined, iw = (m.test[name] for name in METRICS)
        tightest = iw if iw.mean() < refined.mean() else refined
        cells = [f"`{m.name}`", m.data, f"{len(nats):,}"]
        cells += [plus_minus(values) for values in (m.train, nats, refined, iw)]
        cells += [difference(nats, m.train), plus_minus(nats - refined), plus_minus(refined - iw)]
        cells += [difference(m.train, nats - tightest)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


HEAD = """\
# Where the nats go

Nats per image ± standard error over images; written by `tools/nats.py`, do not edit.

    {command}

{machine}; seed {seed}.  The images are evenly spread over each split, as many of one as of the other.

"""
TEXT = """
- **Training and test bound**: one-sample bounds.  Their difference is what the model does not
  generalise, encoder and decoder together.  Its error is that of two independent samples of images,
  and falls with their number alone.
- **Refined**: the bound with q refined for every image, `drawnet evaluate --refine`.  What it gains is
  the price of one encoder for all images (amortisation); more steps would gain more, so it is a least
  value.
- **K**: the bound from K importance samples of the encoder's q.  It falls towards -log p(x) as K grows.
  What it is below the refined bound is the least that is left of the inference gap: q is Gaussian
  (approximation), and the refinement has an end.  Where it is above, nothing is known of that.
- Amortisation and the rest are differences image by image, of one draw of the latents each.
- **Left**: the training bound less the inference gap of the test images by the tighter of the two
  bounds: about -log p(x) of training images.  It is the images' own entropy, and what model and
  optimisation lack; no measurement of one model tells these apart, a better one's does: what is left
  of this one and not of that.
"""


def page(found: Sequence[Measured], command: Nats) -> str:
    """Format the page."""
    words = ["python tools/nats.py", *command.model]
    words += [f"--images {command.images}"] if command.images else []
    words += [f"--importance-samples {command.importance_samples}", f"--refine {command.refine}"]
    made = provenance.build_metadata()
    machine = f"{made.processor}; torch {made.torch}; commit {made.commit or 'unknown'}"
    head = HEAD.format(command=" ".join(words), machine=machine, seed=command.seed)
    return head + table(found, command) + TEXT


if __name__ == "__main__":
    guarded(main, sys.argv[1:])
