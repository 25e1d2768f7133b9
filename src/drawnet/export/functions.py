"""What is exported of a model: functions of named tensors, in plain formulas, for any batch.

    B images   T steps   Z latents a step   C H W an image

A model that draws in steps gives four:

    picture   noise (T, B, Z), label (B, classes) -> image (B, C, H, W)    generation, all of it
    start     label (B, classes) -> state                                  before the first step
    step      state, z (B, Z) -> state, image                              one step of generation
    encode    state, x (B, C, H, W), noise (B, Z) -> state, z, mean, log_sigma     one of reading

`state` stands for the tensors of the model's state; an output new_NAME is the next step's input NAME.
Without classes picture takes no label, and start one of width 0.  z is N(0, 1), or where p(z_t) is
learned prior_mean + exp(prior_log_sigma) · N(0, 1), which start and step return for the next step.
To read an image is, T times, encode and then step with its z.

Other models give one: picture, of the noise that they draw from; or classify, x -> p (B, classes).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from drawnet.errors import UserError
from drawnet.models.base import Classifier, ImplicitModel, Model
from drawnet.models.sequential import StepModel
from drawnet.nn.noise import ImageNoise, NoiseSource

BATCH = 2
"""Images of the inputs with which a function is recorded."""
Tensors = dict[str, Tensor]


class Function(nn.Module):
    """One function of a model: named tensors in, named tensors out."""

    def __init__(
        self, name: str, model: Model, compute: Callable[..., Tensors], inputs: Tensors
    ) -> None:
        """inputs: examples for `BATCH` images."""
        super().__init__()
        self.name, self.model, self.compute, self.inputs = name, model, compute, inputs
        with torch.no_grad():
            self.outputs = compute(**inputs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in order, of the inputs, in order."""
        return tuple(self.compute(**dict(zip(self.inputs, inputs, strict=True))).values())

    def batch_axis(self, name: str) -> int:
        """Which axis of an input counts the images."""
        return 1 if (self.name, name) == ("picture", "noise") else 0

    def examples(self, batch: int) -> Tensors:
        """The example inputs for another number of images."""
        index = torch.arange(batch) % BATCH
        return {k: v.index_select(self.batch_axis(k), index) for k, v in self.inputs.items()}

    def signature(self) -> dict[str, dict[str, list[str | int]]]:
        """Names and shapes of what goes in and comes out; 'B' counts the images."""
        axes = {name: self.batch_axis(name) for name in self.inputs}
        return {
            "inputs": {k: _shape(v, axes[k]) for k, v in self.inputs.items()},
            "outputs": {k: _shape(v, 0) for k, v in self.outputs.items()},
        }


def _shape(value: Tensor, axis: int) -> list[str | int]:
    return ["B" if k == axis else size for k, size in enumerate(value.shape)]


@torch.no_grad()
def functions(model: Model) -> list[Function]:
    """Return what can be exported of a model; UserError if that is nothing."""
    if isinstance(model, StepModel):
        return _Steps(model).functions()
    if isinstance(model, ImplicitModel):
        return [_draw(model)]
    if isinstance(model, Classifier):
        x = torch.rand(BATCH, *model.shape, generator=_generator())
        return [Function("classify", model, lambda x: {"p": model.logits(x).softmax(1)}, {"x": x})]
    raise UserError(f"a {type(model).__name__} neither draws nor classifies: nothing to export")


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# ---- models that draw in steps ------------------------------------------------------------------


class _Steps:
    """The functions of a step model."""

    def __init__(self, model: StepModel) -> None:
        self.model = model
        self.label = torch.eye(max(model.classes, BATCH))[:BATCH, : model.classes]
        first = model.start(self.label)
        self.kind, self.shapes = type(first), {k: v.shape[1:] for k, v in first._asdict().items()}

    def functions(self) -> list[Function]:
        model, generator = self.model, _generator()
        noise = torch.randn(model.steps, BATCH, *model.latents, generator=generator)
        x = torch.rand(BATCH, *model.shape, generator=generator)
        q, state = model.infer(x, model.observe(x, model.start(self.label)))
        state = model.advance(q.sample(noise[0]), state)
        drawn = {"noise": noise} | ({"label": self.label} if model.classes else {})
        parts = self.pack(state)
        return [
            Function("picture", model, self.picture, drawn),
            Function("start", model, self.start, {"label": self.label}),
            Function("step", model, self.step, {**parts, "z": noise[0]}),
            Function("encode", model, self.encode, {**parts, "x": x, "noise": noise[0]}),
        ]

    def pack(self, state: Any, prefix: str = "") -> Tensors:
        """The tensors of a state that have a width, by name."""
        parts = state._asdict().items()
        return {prefix + k: v for k, v in parts if self.shapes[k].numel()}

    def unpack(self, parts: Tensors) -> Any:
        """The state of these tensors."""
        some = next(iter(parts.values()))
        empty = {k: s for k, s in self.shapes.items() if not s.numel()}
        return self.kind(
            **parts, **{k: some.new_zeros(some.shape[0], *s) for k, s in empty.items()}
        )

    def prior(self, state: Any) -> Tensors:
        """p(z) of the step that follows, where it is learned."""
        p = self.model.prior(state)
        return {} if p is None else {"prior_mean": p.mu, "prior_log_sigma": p.log_sigma}

    def image(self, state: Any) -> Tensor:
        """The mean of the pixels, (B, C, H, W)."""
        return self.model.likelihood(state).mean

    # ---- the four -------------------------------------------------------------------------------

    def picture(self, noise: Tensor, label: Tensor | None = None) -> Tensors:
        state = self.model.start(noise.new_zeros(noise.shape[1], 0) if label is None else label)
        for eps in noise:
            p = self.model.prior(state)
            state = self.model.advance(eps if p is None else p.sample(eps), state)
        return {"image": self.image(state)}

    def start(self, label: Tensor) -> Tensors:
        state = self.model.start(label)
        return {**self.pack(state), **self.prior(state)}

    def step(self, z: Tensor, **parts: Tensor) -> Tensors:
        state = self.model.advance(z, self.unpack(parts))
        return {**self.pack(state, "new_"), "image": self.image(state), **self.prior(state)}

    def encode(self, x: Tensor, noise: Tensor, **parts: Tensor) -> Tensors:
        q, state = self.model.infer(x, self.model.observe(x, self.unpack(parts)))
        drawn = {"z": q.sample(noise), "mean": q.mu, "log_sigma": q.log_sigma}
        return {**self.pack(state, "new_"), **drawn}


# ---- models that draw otherwise -----------------------------------------------------------------


@dataclass
class _Recorded:
    """A source of noise that keeps what was drawn, by purpose."""

    source: NoiseSource
    drawn: Tensors = field(default_factory=dict)

    def normal(self, purpose: str, *shape: int, axis: int = 0) -> Tensor:
        return self._keep(purpose, self.source.normal(purpose, *shape, axis=axis))

    def uniform(self, purpose: str, *shape: int, axis: int = 0) -> Tensor:
        return self._keep(purpose, self.source.uniform(purpose, *shape, axis=axis))

    def _keep(self, purpose: str, noise: Tensor) -> Tensor:
        return self.drawn.setdefault(_identifier(purpose), noise)


@dataclass
class _Given:
    """A source whose noise is that of a function's inputs."""

    drawn: Mapping[str, Tensor]

    def normal(self, purpose: str, *shape: int, axis: int = 0) -> Tensor:
        return self.drawn[_identifier(purpose)]

    uniform = normal


def _identifier(purpose: str) -> str:
    return re.sub(r"\W", "_", purpose) + "_noise"


def _draw(model: ImplicitModel) -> Function:
    noise = _Recorded(ImageNoise(0, range(BATCH)))
    model.frames(BATCH, noise)

    def picture(**noise: Tensor) -> Tensors:
        n = next(iter(noise.values())).shape[0]
        return {"image": model.frames(n, _Given(noise))[-1]}

    return Function("picture", model, picture, noise.drawn)
