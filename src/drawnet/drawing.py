"""Drawing with a trained model: films of samples and of reconstructions, the same however batched."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drawnet import checkpoint, figures, step
from drawnet.data import _pictures
from drawnet.figures import Film
from drawnet.randomness import normal_each
from drawnet.step import StepModel

BATCH = 64
"""Images drawn at a time."""


def load(path: str | Path) -> StepModel:
    """The model of a run folder or of a .safetensors file, ready to draw; UserError if unsound."""
    return checkpoint.load_model(Path(path)).network


def _noise(model: StepModel, seed: int, purpose: str, images: range) -> Tensor:
    """(T, len(images), *latents), keyed by image."""
    return normal_each(seed, purpose, images, model.steps, *model.latents).transpose(0, 1)


def _batched(n: int, batch: int, film: Callable[[range], Film]) -> Film:
    ranges = [range(first, min(first + batch, n)) for first in range(0, n, batch)]
    return figures.joined([film(numbers) for numbers in ranges])


def sample_film(
    model: StepModel, n: int, *, seed: int = 0, temperature: float = 1.0, batch: int = BATCH
) -> Film:
    """n samples from the prior and how they were drawn; latents have `temperature` times unit σ."""

    def film(numbers: range) -> Film:
        eps = temperature * _noise(model, seed, "sample", numbers)
        return figures.film(model, step.generate(model, eps))

    return _batched(n, batch, film)


def sample(model: StepModel, n: int = 64, *, seed: int = 0, temperature: float = 1.0) -> Tensor:
    """Pixel means of n samples from the prior, (n, C, H, W) in [0, 1]."""
    return sample_film(model, n, seed=seed, temperature=temperature).frames[-1]


def redraw_film(model: StepModel, x: Tensor, *, seed: int = 0, batch: int = BATCH) -> Film:
    """How the model reads x (n, C, H, W) in [0, 1] and draws it again."""

    def film(numbers: range) -> Film:
        eps, part = _noise(model, seed, "redraw", numbers), x[numbers.start : numbers.stop]
        return figures.film(model, step.reconstruct(model, part, eps))

    return _batched(len(x), batch, film)


def save(film: Film, path: Path) -> None:
    """Write by suffix: .gif, .webp the film; .npz frames, images and windows; else the sheet."""
    suffix = path.suffix.lower()
    if suffix in (".gif", ".webp"):
        figures.save_animation(figures.drawing(film), path)
    elif suffix == ".npz":
        tensors = {"images": film.images, "frames": film.frames, **film.windows}
        arrays: dict[str, Any] = {name: t.numpy() for name, t in tensors.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        checkpoint.write_atomically(path, lambda scratch: scratch.write_bytes(buffer.getvalue()))
    else:
        figures.save_image(figures.grid(film.images), path)


def read_pictures(paths: Sequence[Path], model: StepModel, *, binary: bool, invert: bool) -> Tensor:
    """Pictures brought to the model's size and colours, (n, C, H, W) in [0, 1]; UserError if unsound.

    binary: cut at half intensity, for models of binary pixels.
    invert: dark strokes on white paper become light strokes on black.
    """
    channels, height, width = model.shape
    x = torch.empty(len(paths), *model.shape)
    for k, path in enumerate(paths):
        picture = _pictures.fitted(_pictures.read(path, str(path)), (height, width), "pad")
        array = np.array(picture.convert("L" if channels == 1 else "RGB"))
        x[k] = torch.from_numpy(array).view(height, width, channels).permute(2, 0, 1) / 255
    x = 1 - x if invert else x
    return (x >= 0.5).float() if binary else x


def save_comparison(x: Tensor, film: Film, path: Path) -> None:
    """Write input beside reconstruction: .gif, .webp the film with both windows; else the end."""
    frames = figures.comparison(x, film)
    if path.suffix.lower() in (".gif", ".webp"):
        figures.save_animation(frames, path)
    else:
        figures.save_image(frames[-1], path)
