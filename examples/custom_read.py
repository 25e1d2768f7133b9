"""Change one equation of DRAW: read the image out of focus.

    python examples/custom_read.py

A subclass overrides `read`, equation (27), and everything else stays: the bound, training, sampling.
The original is trained as well, from the same initial weights on the same digits.
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

from drawnet import data, kernels
from drawnet.models.draw import Draw, DrawConfig
from drawnet.models.sequential import bound


class BlurredDraw(Draw):
    """DRAW whose encoder reads images blurred over 5 × 5 pixels."""

    def read(self, images: tuple[Tensor, ...], window: Tensor) -> Tensor:
        """Read blurred images (B, C, H, W) through windows (B, 5): (B, len(images) · C, N, N)."""
        blurred = tuple(F.avg_pool2d(image, 5, stride=1, padding=2) for image in images)
        return super().read(blurred, window)


def train(model: Draw, images: Tensor, steps: int, batch: int = 50) -> None:
    """Maximise the bound with Adam; the weight of the rate rises from 0 to 1."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(1, steps + 1):
        x = images[torch.randint(len(images), (batch,))].bernoulli()
        b = bound(model, x, torch.randn(model.steps, batch, *model.latents))
        loss = b.distortion + step / steps * b.rate.sum(0)
        optimizer.zero_grad()
        loss.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=80, help="training iterations of each model")
    options = parser.parse_args()

    digits = data.load("digits").splits
    images, held_out = (torch.from_numpy(digits[s].pixels) / 255 for s in ("train", "valid"))
    config = DrawConfig(steps=16, units=128, latents=20, read=5, write=5)
    for kind in (Draw, BlurredDraw):
        torch.manual_seed(0)
        model = kind(config, (1, 28, 28))
        model.init_from_mean(images.mean(0))
        kernels.install(model)  # faster where C computes the same; never in place of our own read
        train(model, images, options.steps)
        with torch.no_grad():
            eps = torch.randn(model.steps, len(held_out), *model.latents)
            nats = bound(model, held_out.bernoulli(), eps).total.mean()
        print(f"{kind.__name__}: {nats:.1f} nats on {len(held_out)} held-out digits")


if __name__ == "__main__":
    main()
