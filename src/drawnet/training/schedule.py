"""What changes with a run's position: learning rate, momentum, the weight of the rate."""

import math
from typing import Any

from drawnet.training.config import Run

LATE = 0.8
"""Share of a run after whose warm-up the rate of `wsd` begins to fall."""


def learning_rate(run: Run[Any], examples_seen: int) -> float:
    """Linear warm-up, then constant, halved every `half_life`, or to lr/50 at the end: by a cosine, or
    constant until `LATE` of the run is done and then along a straight line.
    """
    rise = min(1.0, (examples_seen + run.batch) / run.warmup) if run.warmup else 1.0
    if run.decay == "none":
        return run.lr * rise
    if run.decay == "exponential":
        return run.lr * rise * math.exp2(-examples_seen / run.half_life)
    done = min(1.0, max(0, examples_seen - run.warmup) / max(1, run.examples - run.warmup))
    left = (
        min(1.0, (1 - done) / (1 - LATE))
        if run.decay == "wsd"
        else 0.5 * (1 + math.cos(math.pi * done))
    )
    return run.lr * rise * (0.02 + 0.98 * left)


def schedule(run: Run[Any], examples_seen: int) -> dict[str, float]:
    """Return the optimiser's settings at this position: lr, and SGD's momentum, which rises linearly."""
    settings = {"lr": learning_rate(run, examples_seen)}
    if run.optimizer == "sgd":
        risen = min(1.0, examples_seen / run.momentum_rise) if run.momentum_rise else 1.0
        settings["momentum"] = run.momentum + risen * (run.final_momentum - run.momentum)
    return settings


def kl_weight(run: Run[Any], examples_seen: int) -> float:
    """Weight of the rate in the objective, rising from 0 over the first `kl_warmup` examples."""
    return run.kl_weight * (
        min(1.0, (examples_seen + run.batch) / run.kl_warmup) if run.kl_warmup else 1.0
    )


def lengthened(before: Run[Any], now: Run[Any], examples_seen: int) -> str:
    """Say in one line what becomes of the learning rate of a run that gets more examples.

    The rate is a function of position and length: under `cosine` and `wsd` it jumps to what the longer
    run has here.  At lr/50, where the shorter one ended, the added examples would teach little.
    """
    old, new = (learning_rate(run, examples_seen) for run in (before, now))
    here = f"rises from {old:.3g} to the {new:.3g} that a run of this length has here"
    falls = (
        f"{here if new > old else f'stays {new:.3g}'}, and falls to {now.lr / 50:.3g} at its end"
    )
    what = {
        "none": f"stays {new:.3g}",
        "exponential": f"is {new:.3g} and goes on being halved every {now.half_life:,} examples",
        "cosine": falls,
        "wsd": falls,
    }
    return (
        f"{now.examples:,} examples instead of {before.examples:,}, from {examples_seen:,} on: "
        f"the learning rate {what[now.decay]}"
    )
