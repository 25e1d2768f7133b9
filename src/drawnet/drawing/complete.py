"""Completions: missing pixels of images, filled in several ways."""

from collections import deque
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from drawnet.drawing import figures
from drawnet.models.latent import LatentModel, completing

GREY = 0.35
"""Grey level that stands where an image is hidden."""


def each(
    model: LatentModel,
    x: Tensor,
    known: Tensor,
    ways: int,
    frames: int,
    *,
    labels: Sequence[int] = (),
    seed: int = 0,
    rounds: int = 16,
) -> Tensor:
    """Complete every image of x (n, C, H, W) as `completing` does: (frames, n, ways, C, H, W).

    frames: how many of the last rounds are returned.  labels: () or one for each image.
    """
    found = []
    for k, image in enumerate(x):
        own = labels[k : k + 1]
        chain = completing(model, image, known, ways, labels=own, seed=seed + k, rounds=rounds)
        found.append(torch.stack(list(deque(chain, frames))))
    return torch.stack(found, 1)


def figure(x: Tensor, known: Tensor, filled: Tensor) -> Image.Image:
    """Show a row for each image: what is given, its completions and, set apart, the whole image.

    x: (n, C, H, W).  known: (H, W), true where a pixel is given.  filled: (n, ways, C, H, W).
    """
    given = torch.where(known, x, torch.tensor(GREY))
    rows = torch.cat((given[:, None], filled), 1)
    return figures.side_by_side(rows.flatten(0, 1), x, columns=1)
