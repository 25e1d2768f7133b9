"""Draw with a trained model: samples, reconstructions, completions, morphs and their trajectories.

Noise is keyed by image index: results do not depend on the batching.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from drawnet.drawing import figures
from drawnet.drawing.figures import Trajectory
from drawnet.errors import UserError
from drawnet.models import sequential
from drawnet.models.base import BATCH, ImplicitModel, batches, request_labels
from drawnet.models.glimpse import Glimpse
from drawnet.models.latent import Redrawn, latent_noise, sampling
from drawnet.models.sequential import StepModel
from drawnet.nn.noise import ImageNoise, uniform_each
from drawnet.training import checkpoint
from drawnet.training.device import CPU, Device


def load(path: str | Path, kernels: Literal["auto", "off"] = "auto", device: Device = CPU) -> Any:
    """Load the model of a run folder, file or name, ready to draw; UserError if it is invalid.

    device: where it computes, 'auto' for an accelerator if there is one; its inputs must be there.
    """
    return require_generative(checkpoint.load_model(Path(path), kernels, device), path)


def require_generative(model: checkpoint.SavedModel, path: str | Path) -> StepModel | ImplicitModel:
    """Return a model's network if it can generate images; else UserError."""
    if not isinstance(model.network, StepModel | ImplicitModel):
        raise UserError(f"{path} holds a model that cannot generate images ({model.kind})")
    return model.network


def require_inference(model: checkpoint.SavedModel, path: str | Path) -> StepModel:
    """Return a model's network if it can read and reconstruct images; else UserError."""
    if not isinstance(model.network, StepModel):
        raise UserError(f"{path} holds a model that cannot reconstruct images ({model.kind})")
    return model.network


def _batched(n: int, batch: int, trajectory: Callable[[range], Trajectory]) -> Trajectory:
    return figures.joined([trajectory(numbers) for numbers in batches(n, batch)])


def in_turn(labels: Sequence[int], images: range) -> list[int]:
    """Return the label of each image by index, cycling through them."""
    return [labels[k % len(labels)] for k in images]


def sample_trajectory(
    model: StepModel | ImplicitModel,
    n: int,
    *,
    labels: Sequence[int] = (),
    seed: int = 0,
    temperature: float = 1.0,
    batch: int = BATCH,
) -> Trajectory:
    """Draw n samples with their trajectory; a step model's latents are scaled by `temperature`.

    labels: those that a conditional model draws, in turn; none: all its classes in turn.
    """

    drawn = sample_batches(
        model, n, labels=labels, seed=seed, temperature=temperature, batch=batch, frames=True
    )
    return figures.joined(list(drawn))


@torch.no_grad()
def sample_batches(
    model: StepModel | ImplicitModel,
    n: int,
    *,
    labels: Sequence[int] = (),
    seed: int = 0,
    temperature: float = 1.0,
    batch: int = BATCH,
    frames: bool = False,
) -> Iterator[Trajectory]:
    """Yield n samples in batches, as `sample_trajectory` draws them.

    frames: with all steps and windows; else the final images are their only frame.
    """
    if isinstance(model, ImplicitModel):
        check_temperature(temperature)
    for numbers in batches(n, batch):
        if isinstance(model, ImplicitModel):
            request_labels(model, labels, numbers)
            noise = ImageNoise(seed, numbers, model.device)
            whole = Trajectory(model.frames(len(numbers), noise).cpu(), {})
            yield whole if frames else Trajectory(whole.images[None], {})
            continue
        states = sampling(model, numbers, labels=labels, seed=seed, temperature=temperature)
        if frames:
            yield figures.trajectory(model, states)
        else:
            *_, state = deque(states, 1)
            yield Trajectory(figures.mean(model, state)[None], {})


def check_temperature(temperature: float) -> None:
    """Raise UserError if a model that does not draw in steps is to draw at a temperature."""
    if temperature != 1:
        raise UserError("--temperature is for models that draw in steps: leave it at 1")


def sample(
    model: StepModel | ImplicitModel,
    n: int = 64,
    *,
    labels: Sequence[int] = (),
    seed: int = 0,
    temperature: float = 1.0,
) -> Tensor:
    """Return pixel means of n samples, (n, C, H, W) in [0, 1]; labels as in `sample_trajectory`."""
    if isinstance(model, ImplicitModel):
        check_temperature(temperature)
        return model.sample(n, labels=labels, seed=seed)
    return model.sample(n, labels=labels, seed=seed, temperature=temperature)


@torch.no_grad()
def samples(
    model: StepModel | ImplicitModel, images: range, *, labels: Sequence[int] = (), seed: int = 0
) -> Tensor:
    """Return the samples at these indices as `sample` draws them, (len(images), C, H, W)."""
    if isinstance(model, ImplicitModel):
        request_labels(model, labels, images)
        return model.frames(len(images), ImageNoise(seed, images, model.device))[-1].cpu()
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
    """Let the model read x (n, C, H, W) in [0, 1] and draw it again; return the trajectory.

    labels: for a conditional model, one for all images or one for each; UserError otherwise.
    """
    if model.classes and len(labels) not in (1, len(x)):
        raise UserError(
            f"the model is conditional: --label needs one for all or one for each image ({len(x)}), "
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
    """Yield how images x (n, C, H, W), of these indices, are redrawn, as in `redraw_trajectory`."""
    eps, y = latent_noise(model, seed, "redraw", images), request_labels(model, labels, images)
    return sequential.redraw(model, x.to(model.device), eps, y)


def rates(model: StepModel, state: Any, images: range, *, seed: int = 0) -> Tensor:
    """Return KL(q ‖ p) of every step in nats, (T, n), when the model reads its own samples.

    Samples have a prior and no posterior: an image is sampled from each final canvas, its pixels 0
    or 1 where the model's are, and read.  state: the last one of samples with these indices.
    """
    uniform = uniform_each(seed, "see", images, *model.shape).to(model.device)
    x = model.likelihood(state).sample(uniform)
    eps = latent_noise(model, seed, "read", images)
    return torch.stack([moment.rate for moment in sequential.redraw(model, x, eps, state.y)])


def reads_as(model: StepModel, x: Tensor, *, seed: int = 0, draws: int = 8) -> Tensor:
    """Return p(y | x) under a uniform prior over the labels, (n, classes).

    p(x | y) by the importance-weighted bound with this many draws, the same noise for every label.
    """
    n, classes = len(x), model.classes
    eps = latent_noise(model, seed, "label", range(n * draws)).repeat(
        1, classes, *[1] * len(model.latents)
    )
    y = torch.eye(classes).repeat_interleave(n * draws, 0)
    copies = x.to(model.device).repeat_interleave(draws, 0).repeat(classes, 1, 1, 1)
    w = sequential.log_weights(model, copies, eps, y).cpu()
    return w.view(classes, n, draws).logsumexp(2).softmax(0).T


@torch.no_grad()
def glimpse_trajectory(model: Glimpse, x: Tensor) -> Trajectory:
    """Return the images x (n, C, H, W) in [0, 1] with the read window of every glimpse."""
    raw = torch.stack([state.read for state in model.eval().states(x.to(model.device))]).cpu()
    frames = x.expand(len(raw) + 1, *x.shape)
    return Trajectory(frames, {"read": figures.geometry(model, "read", raw)})
