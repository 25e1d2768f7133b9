"""Does a conditional model draw what it is told?  A classifier reads its samples.

    python benchmarks/conditional.py RUN --samples 1000 --data-dir FOLDER --json FILE

The classifier is trained on the run's own training images (two minutes on one core for MNIST) and
kept in RUN/classifier.safetensors, which serves as long as the data are the same.  All classes are
asked for in turn, and each sample is read twice: as pixels drawn from the model's likelihood, and as
their means.  Shares are with their standard errors; the classifier's own errors bound them.
"""

import argparse
import json
import math
from pathlib import Path

import torch

from drawnet.data import pipeline
from drawnet.drawing import sample
from drawnet.errors import UserError
from drawnet.evaluation import classifier
from drawnet.models import sequential
from drawnet.nn.noise import normal_each, uniform_each
from drawnet.training import checkpoint

BATCH = 100


def accuracy(network, run, data):
    """The share of test images that it reads rightly, prepared as the model sees them."""
    images, right = data.splits["test"], 0
    for numbers, x in pipeline.batches(
        torch.from_numpy(images.pixels), data.levels, run.data, "test"
    ):
        labels = torch.from_numpy(images.labels[numbers.start : numbers.stop])
        right += (network.classify(x) == labels).sum().item()
    return right / len(images)


def draw(model, labels, seed):
    """(drawn pixels, means), each (n, C, H, W), of samples that are to show these labels."""
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
    """(share, standard error) of a bool tensor."""
    p = right.float().mean().item()
    return round(p, 4), round(math.sqrt(p * (1 - p) / len(right)), 4)


def shares(network, images, labels):
    """The share read as what was asked, in all and for each class."""
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
    given = parser.parse_args()
    held = checkpoint.load_model(given.run)
    model, run = held.network, held.run
    if not model.classes or given.samples < model.classes:
        raise UserError(f"{given.run} has {model.classes} classes: nothing to tell, or --samples")
    data = run.data.load(given.data_dir)
    pipeline.labels(data, "test", model.classes)
    folder = given.run if given.run.is_dir() else given.run.parent
    binary = data.levels == 2 or run.data.binarise != "no"
    network = classifier.cached(folder / "classifier.safetensors", data, binary=binary)
    result = {"accuracy": accuracy(network, run, data), "samples": given.samples}
    print(f"classifier: {100 * result['accuracy']:.2f} % of {data.name}'s test images right")
    labels = sample.request_labels(model, range(model.classes), range(given.samples)).argmax(1)
    for name, images in zip(("drawn", "means"), draw(model, labels, given.seed), strict=True):
        result[name] = shares(network, images, labels)
        (p, error), each = result[name]["all"], result[name]["classes"]
        print(f"{name}: {100 * p:.1f} ± {100 * error:.1f} % read as the label asked for")
        print("  " + "  ".join(f"{k}: {100 * q:.0f} ± {100 * e:.0f}" for k, (q, e) in each.items()))
    if given.json:
        checkpoint.write_text(given.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
