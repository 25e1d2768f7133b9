"""Prints docs/recipes.md: every recipe with its settings and what a run of it measured.

Descriptions and settings come from `drawnet.recipes`, figures from the run records in docs/records.
`python docs/recipes.py > docs/recipes.md`
"""

import inspect
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from drawnet import recipes
from drawnet.models.draw import DrawConfig
from drawnet.training.config import Run

DOCS = Path(__file__).parent
HEAD = """\
# Recipes

A recipe is a whole run: model, data set and settings of the training.  `drawnet train RECIPE` runs
it, `drawnet train RECIPE --help` lists its options.  `python docs/recipes.py` writes this page from
the recipes and from the records of their runs; do not edit it.

'measured' is the figure of one run on test images that training has not seen.  A bound is a
one-sample estimate, an upper bound on the negative log-likelihood in expectation; K-sample estimates
are kept apart, below.  'options' are those of the measured run.  Minutes are processor minutes up to
the weights that were kept, all threads together, on an AMD EPYC with AVX-512 BF16.  Curves, samples
and commits: [results](results.md); the runs themselves: `docs/runs/`.

| recipe | what | options | minutes | measured |
|---|---|---|---|---|
"""


def page() -> str:
    """The page, as Markdown."""
    rows, sections = [], []
    runs = {name: recipes.get(name) for name in recipes.names()}
    for name in sorted(runs, key=lambda name: type(runs[name].model) is not DrawConfig):
        about, record = description(name), recorded(name)
        cells = [f"`{name}`", about, options(name, record["command"]), minutes(record)]
        rows.append(f"| {' | '.join([*cells, measured(record)])} |\n")
        sections.append(section(name, about, runs[name], record))
    return HEAD + "".join(rows) + "".join(sections)


def description(name: str) -> str:
    """The first line of a recipe's docstring."""
    return (inspect.getdoc(function(name)) or "").partition("\n")[0].rstrip(".")


def function(name: str) -> Any:
    """The function that is the recipe."""
    module = __import__(f"drawnet.recipes.{recipes.names()[name]}", fromlist=[name])
    return getattr(module, name)


def recorded(name: str) -> dict[str, Any]:
    """The record of a recipe's run; of the quick recipe, its curve and its evaluation."""
    path = DOCS / "records" / f"{name}.json"
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    curve, evaluation = (DOCS / "runs" / f"{name}-seed0{end}" for end in (".jsonl", "-test.json"))
    record: dict[str, Any] = {"command": f"drawnet train {name}", "evaluations": []}
    if curve.exists():
        last = json.loads(curve.read_text(encoding="utf-8").splitlines()[-1])
        record |= {"cpu_minutes": last["cpu_seconds"] / 60, "examples": last["examples"]}
        record["evaluations"] = [json.loads(evaluation.read_text(encoding="utf-8"))]
    return record


def options(name: str, command: str) -> str:
    """The options of a command that trained a recipe, each as code."""
    if not command.startswith(f"drawnet train {name}"):
        return "see below"
    return " ".join(f"`--{option.strip()}`" for option in command.split(" --")[1:])


def minutes(record: dict[str, Any]) -> str:
    """Processor minutes, to the minute, with those of the run before it whose weights it began from."""
    if "cpu_minutes" not in record:
        return ""
    before = record.get("before", {}).get("cpu_minutes", 0)
    return f"{max(1, round(before + record['cpu_minutes']))}"


def measured(record: dict[str, Any]) -> str:
    """The figure of a record that is no K-sample estimate, and its mean over several draws."""
    found = once(record)
    for e in record["evaluations"]:
        if draws := e.get("draws"):
            value, factor = (e["error"], 100) if "error" in e else (e["nats"], 1)
            mean, error = (factor * value[k] for k in ("mean", "stderr"))
            found += f"; {mean:.2f} ± {error:.2f} over {draws} draws"
    return found


def once(record: dict[str, Any]) -> str:
    """The figure of one draw, with its unit and what it is of."""
    for e in record["evaluations"]:
        images = f"{e['images']:,} {e['split']} images"
        if "parzen" in e:
            mean, error = e["parzen"]["mean"], e["parzen"]["stderr"]
            return f"{mean:.1f} ± {error:.1f} nats per image (Parzen estimate, {images})"
        if "error" in e:
            mean, error = (100 * e["error"][k] for k in ("mean", "stderr"))
            return f"{mean:.2f} ± {error:.2f} % error ({images})"
        if "picture" in e:
            return (
                f"{e['picture']['mean']:.5f} squared error per pixel ({e['images']:,} unseen views)"
            )
        if e.get("iw_nats") is None and e["cross_entropy_cost_nats"] is None:
            nats = f"{e['elbo_nats']:.2f} ± {e['elbo_stderr']:.2f} nats per image"
            return f"{nats} (bound, {images})"
        if e.get("iw_nats") is None:
            return f"{e['bits_per_dim']:.3f} bits/dim (bound, {images})"
    return "no run yet"


def section(name: str, about: str, run: Run[Any], record: dict[str, Any]) -> str:
    """A recipe's part of the page."""
    default = {f.name: f.default for f in fields(Run)}
    shown = {k: v for k, v in asdict(run).items() if k not in ("recipe", "model", "data")}
    always = ("examples", "batch", "lr")
    training = {k: v for k, v in shown.items() if k in always or v != default[k]}
    data = {k: v for k, v in asdict(run.data).items() if v and v != "no"}
    line = inspect.getsourcelines(function(name))[1]
    source = f"{recipes.names()[name]}.py"
    facts = [f"Data: {listed(data)}", f"Model: {listed(asdict(run.model))}"]
    facts += [f"Training: {listed(training)}"]
    facts += [f"Source: [recipes/{source}](../src/drawnet/recipes/{source}#L{line})"]
    if record["evaluations"]:
        what = record["evaluations"][0]["dataset"]
        facts += [f"Measured: {measured(record)} of {what}, after {record['examples']:,} examples"]
    if before := record.get("before"):
        facts += [f"Before it: `{before['command']}`, {before['examples']:,} examples"]
    facts += [
        f"K-sample estimate, K = {e['importance_samples']:,}: {estimate(e)} nats per image "
        f"({e['images']:,} {e['split']} images evenly spread over the split; their one-sample bound "
        f"{e['elbo_nats']:.2f} ± {e['elbo_stderr']:.2f}, gap {gap(e)})"
        for e in record["evaluations"]
        if e.get("iw_nats") is not None
    ]
    if (DOCS / "records" / f"{name}.json").exists():
        facts += [f"Curve, samples, commit and machine: [results](results.md#{name})"]
    lines = "".join(f"- {fact}\n" for fact in facts)
    return f"\n## {name}\n\n{about}.\n\n    {record['command']}\n\n{lines}"


def estimate(e: dict[str, Any]) -> str:
    """A K-sample estimate, with its standard error if that is known."""
    return f"{e['iw_nats']:.2f}" + (f" ± {e['iw_stderr']:.2f}" if e.get("iw_stderr") else "")


def gap(e: dict[str, Any]) -> str:
    """By how much it is below the bound of the same images, with the standard error if that is known."""
    found = f"{e['elbo_nats'] - e['iw_nats']:.2f}"
    error = e.get("iw_gap_stderr")
    return found + (f" ± {error:.2f}" if error else ", errors not recorded")


def listed(values: dict[str, Any]) -> str:
    """Settings, name and value in turn."""
    plain = {k: f"{v:,}" if type(v) is int else v for k, v in values.items()}
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in plain.items())


if __name__ == "__main__":
    print(page(), end="")
