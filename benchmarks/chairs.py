"""Evaluate the generator of chairs on held-out views, against two baselines; and morph its chairs.

    python benchmarks/chairs.py RUN --out FOLDER --data-dir FOLDER

The squared error of a run's images at all held-out views (mean over them of the sum over pixels,
values in [0, 1], white background), with that of the nearest known view of the chair and of the
pixelwise blend of its two neighbouring known views.  Held out is every other azimuth or, of a
run trained with `--data.options held styles`, an elevation of every fifth chair.
Written: views.png (two rows per chair: real and generated, held-out views), morph.gif and morph.png
(from style to style) and errors.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from drawnet.data import chair_views, chairs
from drawnet.drawing import figures, files
from drawnet.errors import UserError, write_text
from drawnet.models.chairs import Chairs
from drawnet.training import checkpoint

VIEWS = chairs.VIEWS
ROWS, FRAMES = 500, 24


@torch.no_grad()
def generate(model, labels):
    """Return the model's images for these labels, (n, C, S, S)."""
    y = model.encode_labels(torch.as_tensor(labels), model.classes)
    return torch.cat([model(part).clamp(0, 1)[:, : model.colours] for part in y.split(ROWS)])


def errors(model, sprites, numbers, known):
    """Return mean squared errors over the held-out views of these chairs, by method, and their stderr.

    sprites  (n, 62, …) of the chairs of these numbers; known (62,) their training views
    """
    labels = (62 * numbers[:, None] + np.flatnonzero(~known)).flatten()
    real = torch.from_numpy(sprites[:, ~known].reshape(len(labels), *sprites.shape[2:]) / 255.0)
    guesses = {
        "model": generate(model, labels),
        "nearest": torch.from_numpy(chair_views.nearest(sprites, VIEWS, known) / 255).flatten(0, 1),
        "blend": torch.from_numpy(chair_views.blend(sprites, VIEWS, known) / 255).flatten(0, 1),
    }
    found = {}
    for name, guess in guesses.items():
        e = ((guess - real) ** 2).flatten(1).sum(1).view(len(sprites), -1).mean(1)
        stderr = (e.std() / len(e) ** 0.5).item()
        found[name] = {"squared_error": e.mean().item(), "stderr": stderr}
    return found


@torch.no_grad()
def morph(model, pairs, view=3):
    """Interpolate from the first style of each pair to the second, at one view: frames (n, C, S, S)."""
    ends = [
        model.encode_labels(62 * torch.tensor(styles) + view, model.classes)
        for styles in zip(*pairs, strict=True)
    ]
    shares = torch.linspace(0, 1, FRAMES)
    return [model(torch.lerp(*ends, s)).clamp(0, 1)[:, : model.colours] for s in shares]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("chairs"))
    parser.add_argument("--data-dir", type=Path)
    args = parser.parse_args()
    held = checkpoint.load_model(args.run)
    model, options = held.network, held.run.data.parse_options()
    if not isinstance(model, Chairs):
        raise UserError(f"{args.run} is not a generator of chairs")
    known_views = chair_views.HELD_OUT[options.pop("held", "views")]
    sprites = chairs.renderings(args.data_dir, **options).sprites
    views = known_views(len(sprites))
    numbers = np.flatnonzero(~views.all(1))
    known = views[numbers[0]]  # the same for all of them
    found = errors(model, sprites[numbers], numbers, known)
    for name, e in found.items():
        print(f"{name:8} {e['squared_error']:8.2f} ± {e['stderr']:.2f}")

    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / "errors.json", json.dumps(found, indent=1) + "\n")
    unseen, n = np.flatnonzero(~known)[1::4][:6], len(sprites)
    rows = []
    for k in numbers[:: max(1, len(numbers) // 6)][:6]:
        real = torch.from_numpy(sprites[k, unseen] / 255.0).float()
        rows += [real, generate(model, 62 * k + unseen)]
    grid = figures.grid(torch.cat(rows), columns=len(unseen))
    files.save(grid, args.out / "views.png")
    pairs = [(k, k + n // 2) for k in range(0, n // 2, max(1, n // 16))][:8]
    frames = morph(model, pairs)
    files.save_animation([figures.grid(f, columns=4) for f in frames], args.out / "morph.gif")
    files.save(figures.grid(torch.cat(frames[::4]), columns=8), args.out / "morph.png")


if __name__ == "__main__":
    main()
