"""Sample a generative stochastic network by several chains, and count the classes of its samples.

    python benchmarks/chains.py RUN --samples 10000 --data-dir FOLDER --json FILE

one chain       its consecutive reconstructions x̂ from a test image on, as the paper's samples were taken
from training   chains from training images, each of which gives one sample, after 50 and after 100 steps
from the mean   the model's own samples (`drawnet sample`), each from pixels drawn after the mean image
at rest         200 chains from training images: the last twenty x̂, a hundred steps apart, of 2,000 steps

Of each: the Parzen estimate and the Fréchet distance to test images as `drawnet compare` has them,
and the share of samples in every class, by a classifier of the real images.  With them stand as many
training images.
"""

import argparse
import json
import math
from itertools import islice
from pathlib import Path

import torch

from drawnet.data import manifest, subsample_indices
from drawnet.drawing import figures, files
from drawnet.errors import UserError, write_text
from drawnet.evaluation.compare import Plan, Real, of_images, samples_of
from drawnet.models.gsn import GSN
from drawnet.nn.noise import ImageNoise
from drawnet.training import checkpoint

BATCH, RESTING, STEPS, APART, LATER = 200, 200, 2_000, 100, (50, 100)


def one_chain(model, start, n, seed):
    """The first n x̂ of one chain from an image (C, H, W): (n, C, H, W)."""
    return many_chains(model, start[None], range(1, n + 1), seed)[:, 0]


@torch.no_grad()
def many_chains(model, starts, steps, seed):
    """The x̂ after each of `steps` of chains from images (n, C, H, W): (len(steps), n, C, H, W)."""
    parts = []
    for first in range(0, len(starts), BATCH):
        x = starts[first : first + BATCH]
        noise = ImageNoise(seed, range(first, first + len(x)), model.device)
        kept = []
        for t, made in enumerate(islice(model.chain(x.flatten(1), noise), max(steps)), 1):
            if t in steps:
                kept.append(made.cpu().view(-1, *model.shape))
        parts.append(torch.stack(kept))
    return torch.cat(parts, 1)


def report(images, real):
    """Return Parzen, Fréchet and the classes' shares of images (n, C, H, W)."""
    found = of_images(images, real)
    kinds = real.classifier.classify(images).bincount(minlength=real.classifier.config.classes)
    shares = (kinds / len(images)).tolist()
    entropy = -sum(p * math.log(p) for p in shares if p)
    return {
        "parzen": found["parzen"].value,
        "parzen_stderr": found["parzen"].stderr,
        "frechet": found["frechet"].value,
        "classes": [round(p, 4) for p in shares],
        "effective_classes": math.exp(entropy),
    }


def line(name, row):
    shares = " ".join(f"{100 * p:.0f}" for p in row["classes"])
    parzen = f"{row['parzen']:.1f} ± {row['parzen_stderr']:.1f}"
    return (
        f"| {name} | {parzen} | {row['frechet']:.1f} | {shares} | {row['effective_classes']:.1f} |"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path, help="also draw 20 of each here (.png)")
    args = parser.parse_args()
    held = checkpoint.load_model(args.run)
    model = held.network
    if not isinstance(model, GSN):
        raise UserError(f"{args.run} is not a generative stochastic network")
    data = manifest.load(held.run.data, held.data, args.data_dir)
    plan = Plan(samples=args.samples, seed=args.seed)
    real = Real(data, plan, None)
    train, n = real.images("train", args.samples), args.samples
    binary = (torch.rand(train.shape, generator=torch.manual_seed(args.seed)) < train).float()
    resting = tuple(range(STEPS - 19 * APART, STEPS + 1, APART))
    few = binary[subsample_indices(n, min(n, RESTING))]
    sources = {
        "one chain": lambda: one_chain(model, real.images("test", 1)[0], n, args.seed),
        **{
            f"from training, {t} steps": lambda t=t: many_chains(model, binary, (t,), args.seed)[0]
            for t in LATER
        },
        "from the mean": lambda: samples_of(model, plan),
        "at rest": lambda: many_chains(model, few, resting, args.seed).flatten(0, 1),
        "training images": lambda: train,
    }
    print(
        "| samples | Parzen, nats | Fréchet | classes 0 to 9, % | effective |\n|---|---|---|---|---|"
    )
    rows, shown = {}, []
    for name, draw in sources.items():
        images = draw()
        rows[name] = report(images, real)
        shown.append(images[subsample_indices(len(images), 20)])
        print(line(name, rows[name]), flush=True)
    if args.sheet:
        files.save(figures.grid(torch.cat(shown), columns=20), args.sheet)
    if args.json:
        write_text(
            args.json, json.dumps({"samples": n, "seed": args.seed, **rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
