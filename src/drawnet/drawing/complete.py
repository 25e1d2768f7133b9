"""Completions: missing pixels of an image, filled in several ways."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from drawnet.drawing.sample import _noise, request_labels
from drawnet.models import sequential
from drawnet.models.sequential import StepModel
from drawnet.nn.distributions import Pixels
from drawnet.nn.noise import generator, uniform_each

PROPOSALS = 32
"""Number of samples from which a completion chooses its start."""


@torch.no_grad()
def completing(
    model: StepModel,
    x: Tensor,
    known: Tensor,
    n: int,
    *,
    labels: Sequence[int] = (),
    seed: int = 0,
    rounds: int = 16,
) -> Iterator[Tensor]:
    """Yield n completions of x (C, H, W), round by round: (n, C, H, W).

    known: (H, W) bool, the given pixels.  Round 0 chooses one of `PROPOSALS` samples with probability
    proportional to the likelihood of the known pixels.  Then the Markov chain of Rezende, Mohamed
    and Wierstra 2014 (appendix F): read the image, draw it again, restore the known pixels.
    Yielded images have the means of the missing pixels; the chain itself reads samples of them.
    labels: one for all chains or one for each; none: that of the start, chosen from samples of all.
    """
    images, x, known = range(n), x.to(model.device), known.to(model.device)
    pixels, y = _proposed(model, x, known, n, labels, seed)
    yield torch.where(known, x, pixels.mean.clamp(0, 1)).cpu()
    for k in range(rounds):
        uniform = uniform_each(seed, f"complete {k}", images, *model.shape).to(model.device)
        filled = torch.where(known, x, pixels.sample(uniform))
        *_, state = sequential.reconstruct(
            model, filled, _noise(model, seed, f"chain {k}", images), y
        )
        pixels = model.likelihood(state)
        yield torch.where(known, x, pixels.mean.clamp(0, 1)).cpu()


def _proposed(
    model: StepModel, x: Tensor, known: Tensor, n: int, labels: Sequence[int], seed: int
) -> tuple[Pixels, Tensor]:
    """Return the starts of n chains, each one of `PROPOSALS` samples, and their labels y."""
    rows = range(n * PROPOSALS)
    every = [labels[k // PROPOSALS % len(labels)] for k in rows] if labels else range(model.classes)
    y = request_labels(model, every, rows)
    *_, state = sequential.generate(model, _noise(model, seed, "propose", rows), y)
    likely = model.likelihood(state).log_prob_map(x.expand(len(rows), *x.shape)) * known
    weights = likely.flatten(1).sum(1).view(n, PROPOSALS).softmax(1).cpu()
    place = torch.cat(
        [
            k * PROPOSALS + w.multinomial(1, generator=generator(seed, "choose", k))
            for k, w in enumerate(weights)
        ]
    )
    there = place.to(model.device)
    return model.likelihood(type(state)(*(part[there] for part in state))), y[place]
