"""Measure the bound on held-out images."""

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
from drawnet.errors.schema import ImportanceSamples, PositiveInt

if TYPE_CHECKING:
    from drawnet.evaluation.likelihood import Evaluation

GROUP, WORDS = "measure", "RUN"


@dataclass(frozen=True)
class Evaluate:
    """Measure a model over a split, every image counted once: a generative model's bound, a
    classifier's error.  Prints them, with standard errors.
    """

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of bundled weights."""
    split: Literal["train", "valid", "test"] = "test"
    importance_samples: ImportanceSamples | None = None
    """K of the K-sample (importance-weighted) bound; default: no such bound."""
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
    if isinstance(network, LikelihoodModel):
        e = likelihood.evaluate(network, view, importance_samples=command.importance_samples, **how)
        values, lines = asdict(e), report(e)
    elif command.importance_samples:
        raise UserError(f"{command.run} has no bound: leave out --importance-samples")
    else:
        means = likelihood.summary(likelihood.measure(network, view, **how))
        values = {"dataset": data.name, "split": command.split, "images": len(view)}
        values |= {name: asdict(measure) for name, measure in means.items()}
        lines = "\n".join(
            [f"{data.name}, {command.split}: {len(view)} images"]
            + [f"{k:<14}{v.mean:9.4f} ± {v.stderr or 0:.4f}" for k, v in means.items()]
        )
    text = json.dumps(values, indent=1)
    if command.out:
        write_text(command.out, text + "\n")
    print(text if command.json else lines)


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
    if e.iw_nats is not None and not e.exact:
        lines += [f"K = {e.importance_samples:<8}{e.iw_nats:10.2f} nats"]
    return "\n".join(lines)
