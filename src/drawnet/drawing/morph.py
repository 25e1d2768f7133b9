"""Morphs: from one image, or one class, to the next."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from drawnet.models.latent import LatentModel, last_mean, latent_noise, morphing


def between_images(
    model: LatentModel, x: Tensor, steps: int, *, labels: Sequence[int] = (), seed: int = 0
) -> Tensor:
    """Go from each image of x (n, C, H, W) to the next as `morphing` does: (n - 1, steps, C, H, W).

    labels: () or one for each image.
    """
    legs = range(len(x) - 1)
    states = [
        morphing(model, x[k : k + 2], steps, labels=labels[k : k + 2], seed=seed) for k in legs
    ]
    return torch.stack([last_mean(model, leg) for leg in states])


def between_classes(
    model: LatentModel, labels: Sequence[int], images: int, steps: int, *, seed: int = 0
) -> Tensor:
    """Draw the same noise from one class to the next: (images, (len(labels) - 1) · steps, C, H, W).

    The labels' encodings y fade linearly, and the noise of image k is that of sample k.
    """
    y = model.encode_labels(torch.tensor(labels), model.classes)
    share = torch.linspace(0, 1, steps)[:, None]
    fading = torch.cat([(1 - share) * a + share * b for a, b in pairwise(y)])
    rows = []
    for k in range(images):
        eps = latent_noise(model, seed, "sample", range(k, k + 1))
        noise = eps.expand(-1, len(fading), *eps.shape[2:]).contiguous()
        rows.append(last_mean(model, model.generate_steps(noise, fading.to(model.device))))
    return torch.stack(rows)
