"""The fixed-seed runs whose losses must not change: six steps of a tiny model of every kind.

`python tests/golden_runs.py FILE` writes them anew; tests/golden/losses.json is that of commit 95cb40a,
but for the adversaries, whose start and updates have changed, and the ladder, which is newer.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from drawnet import models
from drawnet.data import GeneratedImages, pipeline
from drawnet.data.config import Data
from drawnet.training.config import Run
from drawnet.training.loop import train_step
from drawnet.training.state import Session

STEPS = 6
MODELS: dict[str, dict] = {
    "chairs": {"classes": 496, "units": 8, "joint": 16, "features": 8, "num_downsamples": 2},
    "conv_draw": {"steps": 3, "units": 8, "latents": 3, "num_downsamples": 2, "classes": 10},
    "convnet": {"units": 16},
    "darn": {"hidden": 12},
    "draw": {"steps": 4, "units": 16, "latents": 6, "read": 3, "write": 4, "classes": 10},
    "draw_variant": {
        "steps": 4, "units": 16, "latents": 6, "read": 3, "write": 4, "cell": "gru",
        "kl": "mean_latents",
    },
    "gan": {"noise": 8, "generator": 16, "discriminator": 8, "pieces": 2},
    "glimpse": {"glimpses": 3, "units": 16, "read": 4},
    "gsn": {"units": 24},
    "ladder_draw": {"steps": 3, "features": 8, "units": 12, "classes": 10},
    "patch_draw": {
        "steps": 3, "units": 12, "latents": 5, "features": 4, "read": 6, "write": 6,
    },
    "stem_draw": {"steps": 3, "units": 12, "latents": 5, "features": 4},
    "vae": {"units": 16, "latents": 4, "classes": 10},
}  # fmt: skip
LEVELS = ("gan", "gsn", "glimpse", "convnet")


def run_of(kind: str, precision: str) -> Run:
    """Six batches of 16 of the embedded digits, or of eight chairs."""
    data = Data("digits", binarise="no" if kind in LEVELS else "dynamic")
    if kind == "chairs":
        data = Data("chair_views", options={"models": "8", "size": "16"})
    return Run(
        kind, models.config(kind)(**MODELS[kind]), data, examples=96, batch=16, warmup=32, seed=3,
        precision=precision, evaluate_every=10**6, save_every=10**6, kl_warmup=32, lr=1e-2,
    )  # fmt: skip


def steps(kind: str, precision: str) -> Iterator[dict[str, float]]:
    """What is logged of every step."""
    run = run_of(kind, precision)
    data = run.data.load()
    pixels = data.splits["train"].pixels
    images = pixels if isinstance(pixels, GeneratedImages) else torch.from_numpy(pixels)
    classes = getattr(run.model, "classes", 0)
    y = pipeline.labels(data, "train", classes, models.of(run.model).encode_labels)
    session = Session.fresh(run, images, data.levels, data.shape)
    for _ in range(STEPS):
        yield train_step(session, images, data.levels, y)


def losses(kind: str, precision: str) -> dict[str, list[float]]:
    """Step by step, by name."""
    rows = list(steps(kind, precision))
    return {name: [row[name] for row in rows] for name in rows[0]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {f"{k} {p}": losses(k, p) for k in MODELS for p in ("float32", "bfloat16")}
    Path(sys.argv[1]).write_text(json.dumps(found, indent=1) + "\n")
