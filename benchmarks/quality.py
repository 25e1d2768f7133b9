"""Nats against minutes: the textbook version and ours, from the same start, on the same batches.

    python benchmarks/quality.py --minutes 3 --data-dir FOLDER --json FILE

Attentive DRAW at the paper's MNIST settings on static binarised MNIST, in batches of 128.  Both start
from drawnet's initial weights, see the same examples in the same order and follow the same schedule,
so that only speed differs (and, for ours, bfloat16 products).  Validation is the one-sample bound
on the first 1,000 validation images in float32; its time is not counted.  The contestants run one
after the other.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from speed import machine
from textbook import from_drawnet

from drawnet import data, recipes
from drawnet.models import sequential
from drawnet.nn.noise import Noise, stream
from drawnet.training.loop import tune_allocator
from drawnet.training.schedule import kl_weight, learning_rate
from drawnet.training.state import Session


def contestants(session):
    """Return (name, network, objective, bound): the objective is differentiated, the bound is (B,)."""
    book, model = from_drawnet(session.model), session.model

    def ours(precision):
        def run(x, eps):
            model.precision = precision
            b = sequential.bound(model, x, eps)
            return b.distortion, b.rate

        return run

    return [
        ("textbook", book, book, book),
        ("ours float32", model, ours(None), ours(None)),
        ("ours bfloat16", model, ours(torch.bfloat16), ours(None)),
    ]


def curve(run, network, objective, bound, train, valid, minutes, every=20.0):
    """Train, and return [(training seconds, examples, validation nats)]."""
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    seen, spent, points, due = 0, 0.0, [], every
    while spent < 60 * minutes:
        start = time.perf_counter()
        x = train[stream(run.seed, seen, run.batch, len(train))].float()
        eps = Noise(run.seed, seen).normal("latents", 64, run.batch, 100, axis=1)
        distortion, rate = objective(x, eps)
        loss = (distortion + kl_weight(run, seen) * rate.sum(0)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), run.clip)
        optimizer.param_groups[0]["lr"] = learning_rate(run, seen)
        optimizer.step()
        seen, spent = seen + run.batch, spent + time.perf_counter() - start
        if spent >= due or spent >= 60 * minutes:
            due += every
            points.append((round(spent, 1), seen, validate(bound, valid)))
            print(
                f"  {points[-1][0]:7.1f} s  {seen:7d} examples  {points[-1][2]:.2f} nats",
                flush=True,
            )
    return points


@torch.no_grad()
def validate(bound, valid):
    total = 0.0
    for k, x in enumerate(valid.split(250)):
        distortion, rate = bound(x, Noise(0, k).normal("valid", 64, len(x), 100, axis=1))
        total += (distortion + rate.sum(0)).sum().item()
    return round(total / len(valid), 3)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    tune_allocator()
    run = replace(recipes.get("mnist"), batch=128)
    mnist = data.load("binarized_mnist", args.data_dir)
    train = torch.from_numpy(mnist.splits["train"].pixels)
    valid = torch.from_numpy(mnist.splits["valid"].pixels[:1000]).float()
    print(machine())
    curves = {}
    for place in range(3):
        name, *rest = contestants(Session.fresh(run, train, 2))[place]
        print(name, flush=True)
        curves[name] = curve(run, *rest, train, valid, args.minutes)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "curves": curves}, indent=1) + "\n")


if __name__ == "__main__":
    main()
