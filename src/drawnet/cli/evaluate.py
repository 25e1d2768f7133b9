"""Measure a model on held-out images."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from drawnet.cli._shared import (
    DataDir,
    DataName,
    Device,
    Kernels,
    open_data,
    outputs,
    parse,
    trained,
)
from drawnet.errors import UserError, schema, write_text
from drawnet.errors.schema import ImportanceSamples, PositiveInt, SeveralDraws

if TYPE_CHECKING:
    from drawnet.evaluation.likelihood import Evaluation, Measure


@dataclass(frozen=True)
class Evaluate:
    """Measure a model over a split, every image counted once: a generative model's bound, a
    classifier's error.
    """

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of bundled weights."""
    split: Literal["train", "valid", "test"] = "test"
    importance_samples: ImportanceSamples | None = None
    """K of the K-sample (importance-weighted) bound; default: no such bound."""
    refine: PositiveInt | None = None
    """Also the bound with q refined image by image, by so many steps of Adam on shifts of its means and
    log standard deviations."""
    draws: SeveralDraws | None = None
    """Evaluate so many times, each with another draw of binarisation, latents and, where images are
    generated, places; print means, and standard deviations between draws."""
    images: PositiveInt | None = None
    """Use only this many images of the split, evenly spaced over it."""
    seed: int = 0
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    kernels: Kernels = "auto"
    device: Device = "auto"
    json: bool = False
    """Print JSON instead of lines."""
    out: Path | None = None
    """Also write the JSON to this file."""
    data_name: DataName = None
    data_dir: DataDir = None


def main(arguments: Sequence[str]) -> None:
    command = parse(Evaluate, "evaluate", arguments)
    schema.check(command)
    tighter = command.importance_samples or command.refine
    if command.draws and tighter:
        raise UserError("--draws is of the plain figures: leave out --importance-samples, --refine")
    outputs(command.out, models=[command.run])
    from drawnet import kernels
    from drawnet.data import subsample_indices
    from drawnet.data.pipeline import View
    from drawnet.evaluation import likelihood
    from drawnet.models.base import LikelihoodModel

    model = trained(command.run, command.device, command.kernels)
    data = open_data(model, command.data_name, command.data_dir)
    network = model.network
    kind = network.device.type
    network.precision = kernels.operand_dtype(command.precision, command.kernels, kind)
    some = subsample_indices(len(data.splits[command.split]), command.images)
    view = View(data, command.split, model.run.data.binarise, some)
    how: dict[str, Any] = {"seed": command.seed, "progress": sys.stderr.isatty()}
    if isinstance(network, LikelihoodModel) and not command.draws:
        how |= {"importance_samples": command.importance_samples, "refine": command.refine}
        e = likelihood.evaluate(network, view, **how)
        values, lines = asdict(e), report(e)
    elif tighter:
        raise UserError(f"{command.run} has no bound: leave out --importance-samples, --refine")
    else:
        if command.draws:
            means = likelihood.over_draws(network, view, command.draws, **how)
        else:
            means = likelihood.summary(likelihood.measure(network, view, **how))
        values = {"dataset": data.name, "split": command.split, "images": len(view)}
        values |= {"draws": command.draws} if command.draws else {}
        values |= {name: likelihood.known(measure) for name, measure in means.items()}
        lines = "\n".join(
            [f"{data.name}, {command.split}: {len(view)} images", *map(line, means.items())]
        )
    text = json.dumps(values, indent=1)
    if command.out:
        write_text(command.out, text + "\n")
    print(text if command.json else lines)


def line(named: "tuple[str, Measure]") -> str:
    """Format a metric: its mean, the standard error over images, the deviation between draws."""
    name, m = named
    draws = "" if m.sd is None else f"   between draws, sd {m.sd:.4f}"
    return f"{name:<14}{m.mean:9.4f} ± {m.stderr or 0:.4f}{draws}"


def report(e: "Evaluation") -> str:
    """Format an evaluation as lines, in nats per image."""
    lines = [f"{e.dataset}, {e.split}: {e.images} images"]
    if e.elbo_nats is not None and e.bits_per_dim is not None:
        what = "-log p(x)" if e.exact else "bound"
        lines += [f"{what:<12}{e.elbo_nats:10.2f} ± {e.elbo_stderr or 0:.2f} nats"]
        lines += [f"            {e.bits_per_dim:10.4f} bits/dim"]
    if e.cross_entropy_cost_nats is not None:
        lines += [f"cost        {e.cross_entropy_cost_nats:10.2f} nats (not a likelihood)"]
    if not e.exact:
        lines += [f"rate        {e.rate_nats:10.2f} nats"]
        lines += [f"distortion  {e.distortion_nats:10.2f} nats"]
    if e.refined_nats is not None:
        gap = e.refined_stderr, e.refined_gap_stderr
        lines += [_tighter("refined", e.elbo_nats, e.refined_nats, *gap)]
    if e.iw_nats is not None and not e.exact:
        gap = e.iw_stderr, e.iw_gap_stderr
        lines += [_tighter(f"K = {e.importance_samples}", e.elbo_nats, e.iw_nats, *gap)]
    return "\n".join(lines)


def _tighter(
    name: str, bound: float | None, nats: float, stderr: float | None, gap_stderr: float | None
) -> str:
    """Format a tighter bound, and by how much the plain one of the same images lies above."""
    gap = f"{(bound or 0) - nats:.2f} ± {gap_stderr or 0:.2f} below the bound"
    return f"{name:<12}{nats:10.2f} ± {stderr or 0:.2f} nats, {gap}"
