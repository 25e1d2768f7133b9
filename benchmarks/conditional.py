"""Measure whether a conditional model draws the requested label, by a classifier of its samples.

    python benchmarks/conditional.py RUN --samples 1000 --data-dir FOLDER --json FILE

The classifier is trained on the run's own training images (two minutes on one core for MNIST) and
cached in RUN/classifier.safetensors until the data change.  All classes are requested in turn, and
each sample is classified twice: as pixels sampled from the model's likelihood, and as their means.
Shares are given with standard errors; the classifier's own errors bound them.
"""

import argparse
import json
import math
from pathlib import Path

import torch

from drawnet.data import pipeline
from drawnet.drawing import sample
from drawnet.errors import UserError, write_text
from drawnet.evaluation import classifier
from drawnet.models import sequential
from drawnet.nn.noise import normal_each, uniform_each
from drawnet.training import checkpoint

BATCH = 100


def accuracy(network, model, run, data):
    """Return the share of test images classified correctly, preprocessed as for the model."""
    view, right = pipeline.View(data, "test", run.data.binarise), 0
    for _, x, y in view.batches(model):
        right += (network.classify(x) == y.argmax(1)).sum().item()
    return right / len(view)


def draw(model, labels, seed):
    """Return (sampled pixels, means), each (n, C, H, W), of samples with these labels."""
    drawn, means = [], []
    for first in range(0, len(labels), BATCH):
        numbers = range(first, min(first + BATCH, len(labels)))
        eps = normal_each(seed, "sample", numbers, model.steps, *model.latents).transpose(0, 1)
        y = pipeline.one_hot(labels[numbers.start : numbers.stop], model.classes)
        *_, state = sequential.generate(model, eps, y)
        pixels = model.likelihood(state)
        drawn.append(pixels.sample(uniform_each(seed, "pixels", numbers, *model.shape)))
        means.append(pixels.mean)
    return torch.cat(drawn), torch.cat(means)


def share(right):
    """Return (share, standard error) of a bool tensor."""
    p = right.float().mean().item()
    return round(p, 4), round(math.sqrt(p * (1 - p) / len(right)), 4)


def shares(network, images, labels):
    """Return the share classified as requested, in all and for each class."""
    right = network.classify(images) == labels
    each = {k: share(right[labels == k]) for k in labels.unique().tolist()}
    return {"all": share(right), "classes": each}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    held = checkpoint.load_model(args.run)
    model, run = held.network, held.run
    if not model.classes or args.samples < model.classes:
        raise UserError(
            f"{args.run} has {model.classes} classes: not conditional, or too few --samples"
        )
    data = run.data.load(args.data_dir)
    pipeline.labels(data, "test", model.classes)
    folder = args.run if args.run.is_dir() else args.run.parent
    binary = data.levels == 2 or run.data.binarise != "no"
    network = classifier.cached(folder / "classifier.safetensors", data, binary=binary)
    result = {"accuracy": accuracy(network, model, run, data), "samples": args.samples}
    print(f"classifier: {100 * result['accuracy']:.2f} % of {data.name}'s test images correct")
    labels = sample.request_labels(model, range(model.classes), range(args.samples)).argmax(1)
    for name, images in zip(("drawn", "means"), draw(model, labels, args.seed), strict=True):
        result[name] = shares(network, images, labels)
        (p, error), each = result[name]["all"], result[name]["classes"]
        print(f"{name}: {100 * p:.1f} ± {100 * error:.1f} % classified as requested")
        print("  " + "  ".join(f"{k}: {100 * q:.0f} ± {100 * e:.0f}" for k, (q, e) in each.items()))
    if args.json:
        write_text(args.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
