"""Train on a folder of your own pictures and draw new ones, through the package's functions.

    python examples/own_pictures.py                      # makes a folder of small pictures first
    python examples/own_pictures.py --pictures FOLDER    # .png, .jpg, .webp …, at least three

On the command line: drawnet train images --data.name FOLDER, which chooses a run that suits them.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import drawnet
from drawnet.data.config import Data
from drawnet.drawing import figures, files
from drawnet.models.draw import DrawConfig
from drawnet.training import loop
from drawnet.training.config import Run

SIDE = 16
"""Every picture is brought to this many pixels each way."""


def make_pictures(folder: Path, n: int = 400) -> Path:
    """Fill a folder with pictures of one coloured disc each, on a dark ground."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(n):
        picture = Image.new("RGB", (SIDE, SIDE), (20, 20, 40))
        x, y, radius = rng.uniform(5, 11), rng.uniform(5, 11), rng.uniform(2, 5)
        colour = [(230, 60, 50), (240, 200, 40), (70, 150, 240)][rng.integers(3)]
        box = (x - radius, y - radius, x + radius, y + radius)
        ImageDraw.Draw(picture).ellipse(box, fill=colour)
        picture.save(folder / f"{k:04d}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pictures", type=Path, help="folder of pictures (default: coloured discs)"
    )
    parser.add_argument("--examples", type=int, default=16_000, help="number of training examples")
    parser.add_argument("--out", type=Path, default=Path("out/own_pictures.png"))
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        pictures = options.pictures or make_pictures(Path(scratch) / "pictures")
        run = Run(
            "own_pictures",
            # The paper's cost for colour; "logistic" gives a likelihood, and takes more examples.
            DrawConfig(8, units=128, latents=20, read=3, write=5, likelihood="cross_entropy"),
            Data(str(pictures), size=SIDE),
            examples=options.examples,
            batch=32,
            lr=3e-3,
            warmup=1_000,
            kl_warmup=4_000,
            ema=0.99,
        )
        folder = Path(scratch) / "run"  # weights, metrics and checkpoints; choose one that stays
        progress = loop.train(run, run.data.load(), folder)
        print(f"held-out pictures: {progress.best:.1f} nats; {progress.seconds:.0f} seconds")
        images = drawnet.sample(drawnet.load(folder), 64)
    files.save(figures.grid(images), options.out)
    print(options.out)


if __name__ == "__main__":
    main()
