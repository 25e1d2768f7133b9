"""Measure a model on held-out images."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from drawnet.cli._shared import DataDir, fits, parse, positive, trained
from drawnet.errors import UserError

if TYPE_CHECKING:
    from drawnet.evaluation.likelihood import Evaluation


@dataclass(frozen=True)
class Evaluate:
    """What a model is measured by, over a split, every image counted once: a generative model's
    bound, a classifier's error."""

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of weights that come with drawnet."""
    split: Literal["train", "valid", "test"] = "test"
    importance_samples: int | None = None
    """K of the K-sample (importance-weighted) bound; left out unless given."""
    images: int | None = None
    """Only so many images of the split, evenly spread over it."""
    seed: int = 0
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    json: bool = False
    """Print JSON instead of lines."""
    out: Path | None = None
    """Also write the JSON to this file."""
    data_dir: DataDir = None


def main(arguments: Sequence[str]) -> None:
    command = parse(Evaluate, "evaluate", arguments)
    positive(command.importance_samples, "--importance-samples")
    positive(command.images, "--images")
    import torch

    from drawnet import kernels
    from drawnet.data import subsample_indices
    from drawnet.data.pipeline import labels
    from drawnet.evaluation.likelihood import evaluate as measure_bound
    from drawnet.evaluation.likelihood import measure, summary
    from drawnet.models.base import LikelihoodModel

    model = trained(command.run)
    data = model.run.data.load(command.data_dir)
    fits(model, data)
    network, settings = model.network, model.run.data
    whole = data.splits[command.split].pixels
    some = subsample_indices(len(whole), command.images)
    pixels = torch.from_numpy(whole[some])
    y = labels(data, command.split, network.classes, network.encode_labels)[some]
    how: dict[str, Any] = {
        "seed": command.seed,
        "precision": kernels.operands(command.precision),
        "progress": sys.stderr.isatty(),
    }
    images = (pixels, data.levels, settings, command.split, y)
    if isinstance(network, LikelihoodModel):
        k = command.importance_samples
        e = measure_bound(network, *images, importance_samples=k, name=data.name, **how)
        values, lines = asdict(e), report(e)
    elif command.importance_samples:
        raise UserError(f"{command.run} has no bound: leave out --importance-samples")
    else:
        means = summary(measure(network, *images, **how))
        values = {"dataset": data.name, "split": command.split, "images": len(pixels)} | means
        lines = "\n".join(
            [f"{data.name}, {command.split}: {len(pixels)} images"]
            + [f"{k:<14}{v['mean']:9.4f} ± {v['stderr'] or 0:.4f}" for k, v in means.items()]
        )
    text = json.dumps(values, indent=1)
    if command.out:
        from drawnet.training import checkpoint

        checkpoint.write_text(command.out, text + "\n")
    print(text if command.json else lines)


def report(e: "Evaluation") -> str:
    """An evaluation in lines, nats an image."""
    lines = [f"{e.dataset}, {e.split}: {e.images} images"]
    if e.elbo_nats is not None and e.bits_per_dim is not None:
        what = "-log p(x)" if e.exact else "bound"
        lines += [f"{what:<12}{e.elbo_nats:10.2f} ± {e.elbo_stderr or 0:.2f} nats"]
        lines += [f"            {e.bits_per_dim:10.4f} bits/dim"]
    if e.cross_entropy_cost_nats is not None:
        lines += [f"cost        {e.cross_entropy_cost_nats:10.2f} nats, which is no likelihood"]
    if not e.exact:
        lines += [f"rate        {e.rate_nats:10.2f} nats"]
        lines += [f"distortion  {e.distortion_nats:10.2f} nats"]
    if e.iw_nats is not None and not e.exact:
        lines += [f"K = {e.importance_samples:<8}{e.iw_nats:10.2f} nats"]
    return "\n".join(lines)
