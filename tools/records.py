"""Run records: what was trained, how, on which data and for how long, and its measured results.

A record is a JSON file that `tools/record.py` writes from a run's folder and from the output of `drawnet
evaluate --out`; it is the card of the weights.  `tools/results.py` makes one table of many.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from torch import Tensor

import charts
from drawnet import data, recipes
from drawnet.data.pipeline import View
from drawnet.errors import UserError, schema, write_text
from drawnet.errors.schema import NonNegative, NonNegativeInt, PositiveInt, SeveralDraws
from drawnet.evaluation.compare import Plan, Row
from drawnet.evaluation.likelihood import Evaluation, Measure, evaluate, known
from drawnet.models.base import LikelihoodModel, Model
from drawnet.training import checkpoint
from drawnet.training.config import Run, to_json
from drawnet.training.provenance import Metadata
from drawnet.training.run_dir import read_metrics

PAPER = {
    "mnist": "≤ 80.97 nats",
    "mnist_no_attention": "≤ 87.40 nats",
    "mnist_vae": "99.2 nats (a reproduction, Z = 200)",
    "mnist_darn": "84.71 nats (estimate)",
    "mnist_gan": "225 ± 2 nats by Parzen windows",
    "mnist_gsn": "214 ± 1.1 nats by Parzen windows",
    "cluttered_4": "4.18 % error",
    "cluttered_8": "3.36 % error",
    "cluttered_conv": "14.35 % error",
}
"""The papers' results for a recipe's model and data: Gregor et al. 2015, tables 1 and 2; 2014."""


@dataclass(frozen=True)
class Measured:
    """An evaluation that is no bound: a classifier's error, say, or what was measured on samples."""

    dataset: str
    split: str
    images: PositiveInt
    measures: Annotated[dict[str, Measure], schema.rule(bool, "of at least one metric")]
    """By name; in the file beside the others."""
    samples: PositiveInt | None = None
    draws: SeveralDraws | None = None


LATER = (
    "samples", "draws", "iw_stderr", "iw_gap_stderr", "refine_steps", "refined_nats", "refined_stderr",
    "refined_gap_stderr",
)  # fmt: skip
"""Fields of an evaluation that the first records lack: written where they are known."""


def _kind(values: dict[str, Any]) -> tuple[type[Any], dict[str, Any]]:
    if "elbo_nats" in values:
        return Evaluation, values
    return Measured, schema.gathered(values, Measured, "measures")


@dataclass(frozen=True)
class Source:
    """The images of a run."""

    name: str
    licence: str | None = None
    checksum: str | None = None
    levels: int | None = None


@dataclass(frozen=True)
class Check:
    """The bound on images that are always available."""

    dataset: str
    split: str
    images: PositiveInt
    nats: float


@dataclass(frozen=True)
class Before:
    """A run whose weights another began from."""

    command: str
    examples: NonNegativeInt
    cpu_minutes: NonNegative


@dataclass(frozen=True)
class Record:
    """What is known of a run; None: not known."""

    recipe: str
    command: str
    paper: str | None
    parameters: PositiveInt
    examples: NonNegativeInt | None
    minutes: NonNegative | None
    cpu_minutes: NonNegative | None
    made: Metadata
    data: Source
    evaluations: list[Annotated[Evaluation | Measured, schema.by(_kind)]]
    curve: list[tuple[NonNegativeInt, NonNegative, float]]
    """Examples, processor minutes and selection metric of every validation."""
    run: Run[Any]
    check: Check | None = None
    before: Before | None = None
    """Examples and minutes of the record are without those before it."""

    def text(self) -> str:
        """Return the file's content."""
        values = asdict(self) | {"run": to_json(self.run)}
        for e in values["evaluations"]:
            measures = e.pop("measures", {})
            e |= {name: known(Measure(**values)) for name, values in measures.items()}
            for name in LATER:
                if e.get(name, 0) is None:
                    del e[name]
        if self.before is None:
            del values["before"]
        return json.dumps(values, indent=1) + "\n"


@dataclass(frozen=True)
class Comparison:
    """What `drawnet compare --out` writes."""

    plan: Plan
    rows: list[Row]


def build_record(
    run_folder: Path,
    evaluations: Sequence[Path],
    before: Path | None = None,
    **overrides: str | None,
) -> Record:
    """Return the record of the best weights in a run's folder, or of those in a single file.

    evaluations: JSON files of `drawnet evaluate --out` or, of this run alone, `compare --out`.
    before: the record of the run that this one began from.
    overrides: commit or processor, in place of what the weights record.
    """
    model = checkpoint.load_model(run_folder)
    header, run = model.header, model.run
    known = data.about(run.data.name) if run.data.name in data.names() else None
    identity = (
        {"checksum": header.data.checksum, "levels": header.data.levels} if header.data else {}
    )
    return Record(
        recipe=run.recipe,
        command=command(run),
        paper=PAPER.get(run.recipe),
        parameters=sum(p.numel() for p in model.network.parameters()),
        examples=header.examples,
        minutes=_minutes(header.seconds),
        cpu_minutes=_minutes(header.cpu_seconds),
        made=replace(header.made or Metadata(), **{k: v for k, v in overrides.items() if v}),
        data=Source(run.data.name, known.licence if known else None, **identity),
        evaluations=[_evaluation(path) for path in evaluations],
        curve=_curve(run_folder / "metrics.jsonl", model.network.selection_metric),
        run=run,
        before=_before(before, run) if before else None,
    )


def _before(path: Path, run: Run[Any]) -> Before:
    first = schema.read(path, Record)
    if not run.init:
        raise UserError(f"--before {path}: the run began from random weights")
    if first.examples is None or first.cpu_minutes is None:
        raise UserError(f"{path} does not say how long its run was")
    return Before(first.command, first.examples, first.cpu_minutes)


CHECKED = 100
"""Embedded digits on which the tests evaluate bundled weights again."""


def check(network: Model) -> Check | None:
    """Evaluate a model on the first of the embedded test digits, which are always available.

    None for a model without a bound or of another image size.  Dynamic binarisation, float32.
    """
    digits = data.load("digits")
    if not isinstance(network, LikelihoodModel) or network.shape != digits.shape:
        return None
    e = evaluate(network, View(digits, "test", "dynamic", slice(CHECKED)))
    return None if e.elbo_nats is None else Check("digits", "test", CHECKED, e.elbo_nats)


def rounded(run_folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and header of the best weights in a run's folder, rounded to bfloat16."""
    tensors, header = checkpoint.load_tensors(checkpoint.located(run_folder))
    if origin := header.get("origin"):  # its folder is one machine's
        header |= {"origin": origin | {"path": Path(origin["path"]).name}}
    return {k: t.bfloat16() if t.is_floating_point() else t for k, t in tensors.items()}, header


def command(run: Run[Any]) -> str:
    """Return the command that trains this run: the recipe, and the settings that differ from it."""
    words = ["drawnet", "train", run.recipe]
    if run.recipe not in recipes.names():
        return " ".join(words)
    words += _flags(to_json(recipes.get(run.recipe)), to_json(run))
    return " ".join(words)


def _flags(default: dict[str, Any], value: dict[str, Any], prefix: str = "--") -> Iterator[str]:
    for name, setting in value.items():
        if name in ("kind", "recipe") or default.get(name) == setting:
            continue
        if name == "options":
            yield f"{prefix}options {' '.join(f'{k} {v}' for k, v in setting.items())}"
        elif isinstance(setting, dict):
            yield from _flags(default[name], setting, f"{prefix}{name}.")
        elif isinstance(setting, bool):
            yield f"{prefix}{'' if setting else 'no-'}{name.replace('_', '-')}"
        elif not (name == "precision" and default[name] == "auto"):
            yield f"{prefix}{name.replace('_', '-')} {setting}"


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds / 60, 1)


def _evaluation(path: Path) -> Evaluation | Measured:
    values = schema.read(path, dict[str, Any])
    if values.keys() >= {"plan", "rows"}:
        return _of_samples(schema.convert(values, Comparison, path), path)
    kind, values = _kind(values)
    return schema.convert(values, kind, path)


def _of_samples(comparison: Comparison, path: Path) -> Measured:
    """Return the measures of a run's samples from a comparison."""
    if len(comparison.rows) != 1:
        raise UserError(f"{path}: it compares {len(comparison.rows)} runs; a record is of one")
    row, plan = comparison.rows[0], comparison.plan
    found = {}
    for name in ("parzen", "frechet"):
        figure = row.figures.get(name)
        if figure and figure.value is not None:
            found[name] = Measure(figure.value, figure.stderr)
        elif name == "parzen":
            raise UserError(f"{path}: it has no {name}: {figure.why if figure else 'not measured'}")
    return Measured(row.data, "test", plan.images, found, plan.samples)


def _curve(path: Path, selection_metric: str) -> list[tuple[int, float, float]]:
    key = f"valid_{selection_metric}"
    lines = [m for _, m in read_metrics(path) if key in m.values]
    return [(m.examples, round(m.cpu_seconds / 60, 1), m.values[key]) for m in lines]


# ---- the table ----------------------------------------------------------------------------------


def read(paths: Sequence[Path]) -> dict[str, Record]:
    """Read records by name, from files and from folders of them; UserError if one is invalid."""
    files = [f for p in paths for f in (sorted(p.glob("*.json")) if p.is_dir() else [p])]
    if not files:
        raise UserError(f"no records in {', '.join(map(str, paths))} (tools/record.py writes one)")
    return {file.stem: schema.read(file, Record) for file in files}


def table(records: dict[str, Record]) -> str:
    """Format records in Markdown, a row each, bounds and K-sample estimates in separate columns."""
    head = (
        "| model | data | paper | bound or error | K-sample bound | examples | minutes | commit |"
    )
    lines = [head, "|" + "---|" * 8]
    for name, r in records.items():
        whole, tight = _cells(r.evaluations, binary=is_binary(r.run))
        minutes = f"{r.cpu_minutes:,.0f}" if r.cpu_minutes is not None else "–"
        evaluated = r.evaluations[0].dataset if r.evaluations else r.data.name
        examples, commit = f"{r.examples:,}" if r.examples else "–", r.made.commit or "–"
        if b := r.before:
            examples, minutes = f"{b.examples:,} + {examples}", f"{b.cpu_minutes:,.0f} + {minutes}"
        cells = [f"`{name}`", evaluated, r.paper or "–", whole, tight, examples, minutes, commit]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def is_binary(run: Run[Any]) -> bool:
    """Return whether a run's model is one of binary pixels."""
    return getattr(run.model, "likelihood", None) in (None, "bernoulli")


def _cells(evaluations: Sequence[Evaluation | Measured], *, binary: bool) -> tuple[str, str]:
    """Return the table's cells of a bound or an error, and of a K-sample bound."""
    whole, tight = [], []
    for e in evaluations:
        images = f"{e.images:,} {e.split} images"
        if isinstance(e, Measured):
            whole.append(_measured(e, images))
        elif e.iw_nats is not None:
            tight.append(_tighter(f"K = {e.importance_samples:,}", e, e.iw_nats, images))
        elif binary and e.elbo_nats is not None:
            whole.append(f"{e.elbo_nats:.2f} ± {e.elbo_stderr or 0:.2f} nats ({images})")
        else:
            if e.bits_per_dim is not None:
                whole.append(f"{e.bits_per_dim:.3f} bits/dim ({images})")
            if e.cross_entropy_cost_nats is not None:
                whole.append(f"cost {e.cross_entropy_cost_nats:.1f} nats, no bound ({images})")
    return "; ".join(whole) or "–", "; ".join(tight) or "–"


def _tighter(name: str, e: Evaluation, nats: float, images: str) -> str:
    """Return a K-sample bound in words, with the one-sample bound of the same images and the gap."""
    elbo, error, gap_error = e.elbo_nats or 0, e.iw_stderr, e.iw_gap_stderr
    plain = f"one-sample bound {elbo:.2f} ± {e.elbo_stderr or 0:.2f}"
    gap = f"gap {elbo - nats:.2f}"
    gap += ", errors not recorded" if gap_error is None else f" ± {gap_error:.2f}"
    value = f"{nats:.2f}" if error is None else f"{nats:.2f} ± {error:.2f}"
    return f"{value} nats ({name}, {images}; their {plain}, {gap})"


def _measured(e: Measured, images: str) -> str:
    if e.samples and (nats := e.measures.get("parzen")):
        images = f"{e.samples:,} samples, {images}"
        return f"{nats.mean:.1f} ± {nats.stderr or 0:.1f} nats by Parzen ({images})"
    factor, unit = (100, "%") if "error" in e.measures else (1, "nats")
    if value := e.measures.get("error", e.measures.get("nats")):
        if value.sd is not None:
            images = f"mean of {e.draws} draws of {images}; between draws, standard deviation"
            images += f" {factor * value.sd:.2f} {unit}"
        return f"{factor * value.mean:.2f} ± {factor * (value.stderr or 0):.2f} {unit} ({images})"
    name, value = next(iter(e.measures.items()))
    return f"{name} {value.mean:.4g} ± {value.stderr or 0:.2g} ({images})"


HEAD = """\
# Results

Written by `tools/results.py` from the run records; do not edit.  Minutes are processor time over
all threads.  Bounds are one-sample estimates over the images stated.  Of several runs, as of several
moments of a run, validation alone chooses; test images are looked at once, when it has chosen.
(`cluttered_8_bundled` is a shorter run that it did not choose, whose weights are those at hand;
`mnist_best_start` is the run whose weights `mnist_best` began from.)
Samples next to the nearest training images, and the stages of their drawing, are those of seed 0,
without selection:

    drawnet sample RUN -n 40 --out NAME.png --neighbours NAME-neighbours.png --stages NAME-stages.png

"""


def write(records: dict[str, Record], out: Path) -> None:
    """Write the page: the table, and for every record its command, machine, charts and curve.

    The charts, NAME.svg, are written to a folder next to the page and of its name; pictures in that
    folder, NAME.png or NAME-anything.png, are shown too.
    """
    folder, parts = out.with_suffix(""), [HEAD, table(records)]
    for name, record in records.items():
        if chart := charts.of(record):
            write_text(folder / f"{name}.svg", chart)
        shown = [f for f in (folder / f"{name}.svg", folder / f"{name}.png") if f.exists()]
        shown += sorted(folder.glob(f"{name}-*.png"))
        parts.append(_section(name, record, [f"{folder.name}/{f.name}" for f in shown]))
    write_text(out, "".join(parts))


def _machine(origin: Metadata) -> str:
    """Return the processor, preceded by the accelerator on which the run was trained, if any."""
    names = [origin.processor or "machine unknown"]
    device = origin.device or "cpu"
    return "; ".join(names if device == "cpu" else [device, *names])


def _section(name: str, record: Record, pictures: Sequence[str]) -> str:
    origin = record.made
    facts = [
        f"{record.parameters:,} parameters",
        _machine(origin),
        f"torch {origin.torch or 'unknown'}",
        f"commit {origin.commit or 'unknown'}",
        f"seed {record.run.seed}",
    ]
    lines = [f"\n## {name}\n", f"    {record.command}\n"]
    if b := record.before:
        lines += [f"It began from the weights of `{b.command}`, {b.examples:,} examples.\n"]
    lines += [f"{'; '.join(facts)}.  Licence of the data: {record.data.licence or '–'}."]
    lines += [f"\n![{name}]({picture})" for picture in pictures]
    if curve := record.curve:
        chosen = curve[:: -math.ceil(len(curve) / 12)][::-1]
        lines += ["\n| examples | minutes | validation |", "|---|---|---|"]
        lines += [
            f"| {n:,} | {minutes:,} | {value:{',.0f' if value >= 1000 else '.4g'}} |"
            for n, minutes, value in chosen
        ]
    return "\n".join(lines) + "\n"
