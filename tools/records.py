"""Run records: what was trained, how, on which data and for how long, and its measured results.

A record is a JSON file that `tools/record.py` writes from a run's folder and from the output of `drawnet
evaluate --out`; it is the card of the weights.  `tools/results.py` makes one table of many.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import charts
from drawnet import data, recipes
from drawnet.data.pipeline import View
from drawnet.errors import UserError, check_source, write_text
from drawnet.evaluation.likelihood import evaluate
from drawnet.models.base import LikelihoodModel
from drawnet.training import checkpoint
from drawnet.training.config import Run, from_json, to_json

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

EVALUATED = {"dataset", "split", "images"}
SAMPLED = (("mean", "value"), ("stderr", "stderr"))


def build_record(
    run_folder: Path, evaluations: Sequence[Path], **overrides: str | None
) -> dict[str, Any]:
    """Return the record of the best weights in a run's folder, or of those in a single file.

    evaluations: JSON files of `drawnet evaluate --out` or, of this run alone, `compare --out`.
    overrides: commit or processor, in place of what the weights record.
    """
    model = checkpoint.load_model(run_folder)
    header, run = model.header, model.run
    known = header.get("made") or {}
    found = {
        "recipe": run.recipe,
        "command": command(run),
        "paper": PAPER.get(run.recipe),
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "examples": header.get("examples"),
        "minutes": _minutes(header.get("seconds")),
        "cpu_minutes": _minutes(header.get("cpu_seconds")),
        "made": known | {k: v for k, v in overrides.items() if v},
        "data": _data(run, header),
        "evaluations": [_evaluation(path) for path in evaluations],
        "curve": _curve(run_folder / "metrics.jsonl", model.network.selection_metric),
        "run": to_json(run),
    }
    return found


CHECKED = 100
"""Embedded digits on which the tests evaluate bundled weights again."""


def check(path: Path) -> dict[str, Any] | None:
    """Evaluate weights on the first of the embedded test digits, which are always available.

    None for a model without a bound or of another image size.  Dynamic binarisation, float32.
    """
    model = checkpoint.load_model(path)
    digits = data.load("digits")
    if not isinstance(model.network, LikelihoodModel) or model.network.shape != digits.shape:
        return None
    view = View(digits, "test", "dynamic", slice(CHECKED))
    e = evaluate(model.network, view)
    return {"dataset": "digits", "split": "test", "images": CHECKED, "nats": e.elbo_nats}


def rounded(run_folder: Path, path: Path) -> None:
    """Write the best weights of a run's folder, rounded to bfloat16, as an ordinary model file."""
    tensors, header = checkpoint.load_tensors(checkpoint.located(run_folder))
    checkpoint.load_model(run_folder)
    rounded_ = {name: t.bfloat16() if t.is_floating_point() else t for name, t in tensors.items()}
    checkpoint.save_tensors(path, rounded_, header)


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


def _data(run: Run[Any], header: dict[str, Any]) -> dict[str, Any]:
    known = data.about(run.data.name) if run.data.name in data.names() else None
    licence = known.licence if known else None
    saved = header.get("data") or {}
    identity = {key: saved[key] for key in ("checksum", "levels") if key in saved}
    return {"name": run.data.name, "licence": licence} | identity


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds / 60, 1)


def _evaluation(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(check_source(path).read_text())
        if isinstance(values, dict) and values.keys() == {"plan", "rows"}:
            values = _of_samples(**values)
        if missing := EVALUATED - set(values if isinstance(values, dict) else ()):
            raise ValueError(f"missing keys: {', '.join(sorted(missing))}")
    except (OSError, ValueError, KeyError, TypeError) as why:
        raise UserError(
            f"{path} is not an evaluation (drawnet evaluate RUN --out FILE): {why}"
        ) from why
    return values


def _of_samples(plan: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the measures of a run's samples from a comparison."""
    if len(rows) != 1:
        raise ValueError(f"it compares {len(rows)} runs; a record is of one")
    figures = rows[0]["figures"]
    if figures["parzen"]["value"] is None:
        raise ValueError(figures["parzen"]["why"])
    found = {k: {m: figures[k][v] for m, v in SAMPLED} for k in ("parzen", "frechet")}
    test = {"dataset": rows[0]["data"], "split": "test", "images": plan["images"]}
    return test | {"samples": plan["samples"]} | found


def _curve(path: Path, selection_metric: str) -> list[list[float]]:
    """Return [examples, processor minutes, selection metric] of every validation."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    key = f"valid_{selection_metric}"
    return [[r["examples"], round(r["cpu_seconds"] / 60, 1), r[key]] for r in rows if key in r]


# ---- the table ----------------------------------------------------------------------------------


def read(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Read records by name, from files and from folders of them; UserError if one is invalid."""
    files = [f for p in paths for f in (sorted(p.glob("*.json")) if p.is_dir() else [p])]
    if not files:
        raise UserError(f"no records in {', '.join(map(str, paths))} (tools/record.py writes one)")
    found = {}
    for file in files:
        try:
            found[file.stem] = json.loads(check_source(file).read_text())
            from_json(found[file.stem]["run"])
        except (OSError, ValueError, KeyError, TypeError, UserError) as e:
            raise UserError(f"{file} is not a run record (tools/record.py writes one): {e}") from e
    return found


def table(records: dict[str, dict[str, Any]]) -> str:
    """Format records in Markdown, a row each, bounds and K-sample estimates in separate columns."""
    head = (
        "| model | data | paper | bound or error | K-sample bound | examples | minutes | commit |"
    )
    lines = [head, "|" + "---|" * 8]
    for name, r in records.items():
        whole, tight = _cells(r)
        commit = (r["made"] or {}).get("commit") or "–"
        minutes = f"{r['cpu_minutes']:,.0f}" if r["cpu_minutes"] is not None else "–"
        evaluated = r["evaluations"][0]["dataset"] if r["evaluations"] else r["data"]["name"]
        examples = f"{r['examples']:,}" if r["examples"] else "–"
        cells = [f"`{name}`", evaluated, r["paper"] or "–", whole, tight, examples, minutes, commit]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cells(record: dict[str, Any]) -> tuple[str, str]:
    """Return the table's cells of a bound or an error, and of a K-sample bound."""
    whole, tight = [], []
    binary = record["run"]["model"].get("likelihood") in (None, "bernoulli")
    for e in record["evaluations"]:
        images = f"{e['images']:,} {e['split']} images"
        if "samples" in e:
            nats, images = e["parzen"], f"{e['samples']:,} samples, {images}"
            whole.append(f"{nats['mean']:.1f} ± {nats['stderr']:.1f} nats by Parzen ({images})")
        elif "error" in e:
            error = {k: 100 * (v or 0) for k, v in e["error"].items()}
            whole.append(f"{error['mean']:.2f} ± {error['stderr']:.2f} % ({images})")
        elif "elbo_nats" not in e:  # a model without a bound: its selection metric
            name, value = next((k, v) for k, v in e.items() if isinstance(v, dict))
            whole.append(f"{name} {value['mean']:.4g} ± {value['stderr'] or 0:.2g} ({images})")
        elif e.get("iw_nats") is not None:
            tight.append(f"{e['iw_nats']:.2f} nats (K = {e['importance_samples']:,}, {images})")
        elif binary:
            whole.append(f"{e['elbo_nats']:.2f} ± {e['elbo_stderr']:.2f} nats ({images})")
        else:
            if e.get("bits_per_dim") is not None:
                whole.append(f"{e['bits_per_dim']:.3f} bits/dim ({images})")
            if e.get("cross_entropy_cost_nats") is not None:
                whole.append(f"cost {e['cross_entropy_cost_nats']:.1f} nats, no bound ({images})")
    return "; ".join(whole) or "–", "; ".join(tight) or "–"


HEAD = """\
# Results

Written by `tools/results.py` from the run records; do not edit.  Minutes are processor time over
all threads.  Bounds are one-sample estimates over the images stated.  Samples next to the nearest
training images, and the stages of their drawing, are those of seed 0, without selection:

    drawnet sample RUN -n 40 --out NAME.png --neighbours NAME-neighbours.png --stages NAME-stages.png

"""


def write(records: dict[str, dict[str, Any]], out: Path) -> None:
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


def _machine(origin: dict[str, Any]) -> str:
    """Return the processor, preceded by the accelerator on which the run was trained, if any."""
    names = [origin.get("processor") or "machine unknown"]
    device = origin.get("device") or "cpu"
    return "; ".join(names if device == "cpu" else [device, *names])


def _section(name: str, record: dict[str, Any], pictures: Sequence[str]) -> str:
    origin, licence = record["made"] or {}, record["data"]["licence"] or "–"
    facts = [
        f"{record['parameters']:,} parameters",
        _machine(origin),
        f"torch {origin.get('torch') or 'unknown'}",
        f"commit {origin.get('commit') or 'unknown'}",
        f"seed {record['run']['seed']}",
    ]
    lines = [f"\n## {name}\n", f"    {record['command']}\n"]
    lines += [f"{'; '.join(facts)}.  Licence of the data: {licence}."]
    lines += [f"\n![{name}]({picture})" for picture in pictures]
    if curve := record["curve"]:
        chosen = curve[:: -math.ceil(len(curve) / 12)][::-1]
        lines += ["\n| examples | minutes | validation |", "|---|---|---|"]
        lines += [
            f"| {n:,} | {minutes:,} | {value:{',.0f' if value >= 1000 else '.4g'}} |"
            for n, minutes, value in chosen
        ]
    return "\n".join(lines) + "\n"
