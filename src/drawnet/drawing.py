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
from drawnet.errors import UserError
from drawnet.figures import Film
from drawnet.learner import Learner
from drawnet.models.glimpse import Glimpse
from drawnet.randomness import normal_each
from drawnet.run import to_json
from drawnet.step import StepModel

BATCH = 64
"""Images drawn at a time."""


def load(path: str | Path) -> StepModel:
    """The model of a run folder, a .safetensors file or a name, ready to draw; UserError if unsound."""
    return drawer(checkpoint.load_model(Path(path)), path)


def drawer(model: checkpoint.Model, path: str | Path) -> StepModel:
    """The network of a model, if it is one that draws; else UserError."""
    if not isinstance(model.network, StepModel):
        kind = to_json(model.run)["model"]["kind"]
        raise UserError(f"{path} holds a model that draws nothing ({kind})")
    return model.network


def _noise(model: StepModel, seed: int, purpose: str, images: range) -> Tensor:
    """(T, len(images), *latents), keyed by image."""
    return normal_each(seed, purpose, images, model.steps, *model.latents).transpose(0, 1)


def _batched(n: int, batch: int, film: Callable[[range], Film]) -> Film:
    ranges = [range(first, min(first + batch, n)) for first in range(0, n, batch)]
    return figures.joined([film(numbers) for numbers in ranges])


def told(model: StepModel, labels: Sequence[int], images: range) -> Tensor:
    """What the model is told of images by number: the labels in turn, (len(images), classes).

    UserError for labels that the model has not, or that it is not told at all.
    """
    if labels and not model.classes:
        raise UserError("the model is told no labels: leave out --label")
    for label in labels:
        if not 0 <= label < model.classes:
            raise UserError(f"--label {label} is none of the model's, 0 to {model.classes - 1}")
    turn = labels or [0]
    return step.one_hot(torch.tensor([turn[k % len(turn)] for k in images]), model.classes)


def sample_film(
    model: StepModel,
    n: int,
    *,
    labels: Sequence[int] = (),
    seed: int = 0,
    temperature: float = 1.0,
    batch: int = BATCH,
) -> Film:
    """n samples from the prior and how they were drawn; latents have `temperature` times unit σ.

    labels: what a conditional model is to draw, in turn; none: all its classes in turn.
    """
    labels = labels or range(model.classes)

    def film(numbers: range) -> Film:
        eps = temperature * _noise(model, seed, "sample", numbers)
        return figures.film(model, step.generate(model, eps, told(model, labels, numbers)))

    return _batched(n, batch, film)


def sample(
    model: StepModel,
    n: int = 64,
    *,
    labels: Sequence[int] = (),
    seed: int = 0,
    temperature: float = 1.0,
) -> Tensor:
    """Pixel means of n samples from the prior, (n, C, H, W) in [0, 1]; labels as in `sample_film`."""
    film = sample_film(model, n, labels=labels, seed=seed, temperature=temperature)
    return film.images


def redraw_film(
    model: StepModel,
    x: Tensor,
    *,
    labels: Sequence[int] = (),
    seed: int = 0,
    batch: int = BATCH,
) -> Film:
    """How the model reads x (n, C, H, W) in [0, 1] and draws it again.

    labels: for a conditional model, one for all images or one for each; UserError otherwise.
    """
    if model.classes and len(labels) not in (1, len(x)):
        raise UserError(
            f"the model is told labels: --label, one for all or one for each picture ({len(x)}), "
            f"not {len(labels)}"
        )

    def film(numbers: range) -> Film:
        eps, part = _noise(model, seed, "redraw", numbers), x[numbers.start : numbers.stop]
        y = told(model, labels, numbers)
        return figures.film(model, step.reconstruct(model, part, eps, y))

    return _batched(len(x), batch, film)


@torch.no_grad()
def looking_film(model: Glimpse, x: Tensor) -> Film:
    """Where a reader looks at x (n, C, H, W) in [0, 1]: the images, and the window of every glimpse."""
    raw = torch.stack([state.read for state in model.eval().states(x)])
    frames = x.expand(len(raw) + 1, *x.shape)
    return Film(frames, {"read": figures.geometry(model, "read", raw)})


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


def read_pictures(paths: Sequence[Path], model: Learner, *, binary: bool, invert: bool) -> Tensor:
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
