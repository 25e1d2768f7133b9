"""Drawing with a trained model: samples, reconstructions, completions, morphs and films of them.

Noise belongs to an image by its number: how images are batched changes nothing.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drawnet.data import pipeline
from drawnet.drawing import figures
from drawnet.drawing.figures import Trajectory
from drawnet.errors import UserError
from drawnet.models import sequential
from drawnet.models.base import ImplicitModel, Model
from drawnet.models.glimpse import Glimpse
from drawnet.models.sequential import Redrawn, StepModel
from drawnet.nn.noise import ImageNoise, normal_each, uniform_each
from drawnet.training import checkpoint

BATCH = 64
"""Images drawn at a time."""


def load(path: str | Path) -> Any:
    """The model of a run folder, a .safetensors file or a name, ready to draw; UserError if unsound."""
    return require_generative(checkpoint.load_model(Path(path)), path)


def require_generative(model: checkpoint.SavedModel, path: str | Path) -> StepModel | ImplicitModel:
    """The network of a model, if it is one that draws; else UserError."""
    if not isinstance(model.network, StepModel | ImplicitModel):
        raise UserError(f"{path} holds a model that draws nothing ({model.kind})")
    return model.network


def require_inference(model: checkpoint.SavedModel, path: str | Path) -> StepModel:
    """The network of a model, if it is one that reads pictures and draws them again; else UserError."""
    if not isinstance(model.network, StepModel):
        raise UserError(f"{path} holds a model that redraws nothing ({model.kind})")
    return model.network


def _noise(model: StepModel, seed: int, purpose: str, images: range) -> Tensor:
    """(T, len(images), *latents), keyed by image."""
    return normal_each(seed, purpose, images, model.steps, *model.latents).transpose(0, 1)


def _batched(n: int, batch: int, trajectory: Callable[[range], Trajectory]) -> Trajectory:
    ranges = [range(first, min(first + batch, n)) for first in range(0, n, batch)]
    return figures.joined([trajectory(numbers) for numbers in ranges])


def request_labels(model: Model, labels: Sequence[int], images: range) -> Tensor:
    """What the model is told of images by number: the labels in turn, (len(images), classes).

    UserError for labels that the model has not, or that it is not told at all.
    """
    if labels and not model.classes:
        raise UserError("the model is told no labels: leave out --label")
    for label in labels:
        if not 0 <= label < model.classes:
            raise UserError(f"--label {label} is none of the model's, 0 to {model.classes - 1}")
    turn = labels or [0]
    return pipeline.one_hot(torch.tensor([turn[k % len(turn)] for k in images]), model.classes)


def sample_trajectory(
    model: StepModel | ImplicitModel,
    n: int,
    *,
    labels: Sequence[int] = (),
    seed: int = 0,
    temperature: float = 1.0,
    batch: int = BATCH,
) -> Trajectory:
    """n samples and how they were drawn; a step model's latents have `temperature` times unit σ.

    labels: what a conditional model is to draw, in turn; none: all its classes in turn.
    """

    def trajectory(numbers: range) -> Trajectory:
        if isinstance(model, ImplicitModel):
            request_labels(model, labels, numbers)
            with torch.no_grad():
                return Trajectory(model.frames(len(numbers), ImageNoise(seed, numbers)).cpu(), {})
        states = sampling(model, numbers, labels=labels, seed=seed, temperature=temperature)
        return figures.trajectory(model, states)

    if isinstance(model, ImplicitModel) and temperature != 1:
        raise UserError("--temperature is for models that draw in steps: leave it at 1")
    return _batched(n, batch, trajectory)


def sampling(
    model: StepModel,
    images: range,
    *,
    labels: Sequence[int] = (),
    seed: int = 0,
    temperature: float = 1.0,
) -> Iterator[Any]:
    """The states of samples by number, step by step, as `sample_film` draws them."""
    eps = temperature * _noise(model, seed, "sample", images)
    return sequential.generate(
        model, eps, request_labels(model, labels or range(model.classes), images)
    )


def sample(
    model: StepModel | ImplicitModel,
    n: int = 64,
    *,
    labels: Sequence[int] = (),
    seed: int = 0,
    temperature: float = 1.0,
) -> Tensor:
    """Pixel means of n samples from the prior, (n, C, H, W) in [0, 1]; labels as in `sample_film`."""
    trajectory = sample_trajectory(model, n, labels=labels, seed=seed, temperature=temperature)
    return trajectory.images


@torch.no_grad()
def samples(
    model: StepModel | ImplicitModel, images: range, *, labels: Sequence[int] = (), seed: int = 0
) -> Tensor:
    """The samples of these numbers as `sample` draws them, (len(images), C, H, W), nothing kept else."""
    if isinstance(model, ImplicitModel):
        request_labels(model, labels, images)
        return model.frames(len(images), ImageNoise(seed, images))[-1].cpu()
    *_, state = deque(sampling(model, images, labels=labels, seed=seed), 1)
    return figures.mean(model, state)


def redraw_trajectory(
    model: StepModel,
    x: Tensor,
    *,
    labels: Sequence[int] = (),
    seed: int = 0,
    batch: int = BATCH,
) -> Trajectory:
    """How the model reads x (n, C, H, W) in [0, 1] and draws it again.

    labels: for a conditional model, one for all images or one for each; UserError otherwise.
    """
    if model.classes and len(labels) not in (1, len(x)):
        raise UserError(
            f"the model is told labels: --label, one for all or one for each picture ({len(x)}), "
            f"not {len(labels)}"
        )

    def trajectory(numbers: range) -> Trajectory:
        part = x[numbers.start : numbers.stop]
        moments = redrawing(model, part, numbers, labels=labels, seed=seed)
        return figures.trajectory(model, (moment.state for moment in moments))

    return _batched(len(x), batch, trajectory)


def redrawing(
    model: StepModel, x: Tensor, images: range, *, labels: Sequence[int] = (), seed: int = 0
) -> Iterator[Redrawn]:
    """How pictures x (n, C, H, W), so numbered, are redrawn step by step, as `redraw_film` does."""
    return sequential.redraw(
        model, x, _noise(model, seed, "redraw", images), request_labels(model, labels, images)
    )


def rates(model: StepModel, state: Any, images: range, *, seed: int = 0) -> Tensor:
    """KL(q ‖ p) of every step in nats, (T, n), when the model reads what it has drawn.

    Samples have a prior and no posterior: a picture is drawn at random from each finished canvas,
    its pixels 0 or 1 where the model's are, and read.  state: the last one of samples, so numbered.
    """
    uniform = uniform_each(seed, "see", images, *model.shape)
    x = model.likelihood(state).sample(uniform)
    eps = _noise(model, seed, "read", images)
    return torch.stack([moment.rate for moment in sequential.redraw(model, x, eps, state.y)])


def reads_as(model: StepModel, x: Tensor, *, seed: int = 0, draws: int = 8) -> Tensor:
    """p(y | x) where every label is as likely before x is seen, (n, classes).

    p(x | y) by the importance-weighted bound of so many draws, the same noise for every label.
    """
    n, classes = len(x), model.classes
    eps = _noise(model, seed, "label", range(n * draws)).repeat(
        1, classes, *[1] * len(model.latents)
    )
    y = torch.eye(classes).repeat_interleave(n * draws, 0)
    w = sequential.log_weights(
        model, x.repeat_interleave(draws, 0).repeat(classes, 1, 1, 1), eps, y
    )
    return w.view(classes, n, draws).logsumexp(2).softmax(0).T


@torch.no_grad()
def glimpse_trajectory(model: Glimpse, x: Tensor) -> Trajectory:
    """Where a reader looks at x (n, C, H, W) in [0, 1]: the images, and the window of every glimpse."""
    raw = torch.stack([state.read for state in model.eval().states(x)])
    frames = x.expand(len(raw) + 1, *x.shape)
    return Trajectory(frames, {"read": figures.geometry(model, "read", raw)})
