"""A model of your own in a file of your own: the step contract gives it everything else.

    python examples/custom_model.py            # then open out/custom_model.png

A step model is five functions of its state.  From these follow the variational bound, which trains
it, and sampling.  This one is a recurrent variational autoencoder with one layer each way and no
attention: DRAW without its LSTMs and windows.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

import drawnet
from drawnet import data
from drawnet.drawing import figures, files
from drawnet.models.sequential import StepModel, bound
from drawnet.nn.distributions import Bernoulli, Gaussian


@dataclass(frozen=True)
class TinyConfig:
    """Sizes of a `Tiny`."""

    steps: int = 8
    units: int = 128
    latents: int = 16


class State(NamedTuple):
    """What one step hands to the next, for B images."""

    c: Tensor
    """Canvas: logits of the pixels."""
    h: Tensor
    """The decoder's units."""
    y: Tensor
    """Labels; this model has none, (B, 0)."""


class Tiny(StepModel):
    """A recurrent variational autoencoder of three linear maps and a tanh."""

    Config = TinyConfig  # by which a saved run finds its model again

    def __init__(self, config: TinyConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.steps, self.latents = config.steps, (config.latents,)
        pixels, units = torch.Size(shape).numel(), config.units
        self.encoder = nn.Sequential(
            nn.Linear(2 * pixels + units, units), nn.Tanh(), nn.Linear(units, 2 * config.latents)
        )
        self.decoder = nn.Linear(config.latents + units, units)
        self.write = nn.Linear(units, pixels)
        self.c0 = nn.Parameter(torch.zeros(shape))

    def start(self, y: Tensor) -> State:
        """Return the state before the first step: the learned canvas, and units at rest."""
        c = self.c0.expand(len(y), *self.shape)
        return State(c, c.new_zeros(len(y), self.config.units), y)

    def infer(self, x: Tensor, state: State) -> tuple[Gaussian, State]:
        """Return q(z_t | x, state); this encoder has no state of its own to move on."""
        x_hat = x - state.c.sigmoid()
        q = self.encoder(torch.cat((x.flatten(1), x_hat.flatten(1), state.h), 1))
        return Gaussian(*q.chunk(2, 1)), state

    def prior(self, state: State) -> None:
        """Return p(z_t): None stands for N(0, I)."""
        return None

    def advance(self, z: Tensor, state: State) -> State:
        """Return the state after the decoder has taken z_t and written on the canvas."""
        h = torch.tanh(self.decoder(torch.cat((z, state.h), 1)))
        return state._replace(c=state.c + self.write(h).view(-1, *self.shape), h=h)

    def likelihood(self, state: State) -> Bernoulli:
        """Return the distribution over images that the canvas stands for."""
        return Bernoulli(state.c)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600, help="training iterations")
    parser.add_argument("--out", type=Path, default=Path("out/custom_model.png"))
    options = parser.parse_args()

    torch.manual_seed(0)
    images = torch.from_numpy(data.load("digits").splits["train"].pixels) / 255
    model = Tiny(TinyConfig(), (1, 28, 28))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(1, options.steps + 1):
        x = images[torch.randint(len(images), (64,))].bernoulli()
        b = bound(model, x, torch.randn(model.steps, 64, *model.latents))
        loss = (b.distortion + min(1, step / 200) * b.rate.sum(0)).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        if step % 100 == 0 or step == options.steps:
            print(f"step {step}: {b.total.mean():.1f} nats")
    files.save(figures.grid(drawnet.sample(model, 64)), options.out)


if __name__ == "__main__":
    main()
