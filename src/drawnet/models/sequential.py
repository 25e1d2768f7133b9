"""The step contract, and everything that is written once over it.

A sequential latent-variable model is five functions of its state: `start`, `infer`, `prior`,
`advance` and `likelihood`; a sixth, `observe`, is for what `infer` takes from x once an image.  From
these follow the variational bound, the importance-weighted bound, ancestral sampling, reconstruction
and encoding.

    B images   T steps   Z latents a step   (all log-probabilities in nats)
    x    images (B, C, H, W) in [0, 1]          eps  noise (T, B, *latents), N(0, I)
    y    labels, one-hot (B, classes); None or (B, 0) for a model without classes
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from drawnet.models.base import LossOptions, Terms
from drawnet.models.latent import LatentModel, Redrawn
from drawnet.nn import distributions
from drawnet.nn.distributions import Gaussian, Pixels
from drawnet.nn.noise import NoiseSource
from drawnet.nn.tracing import traced

T = TypeVar("T", int, Tensor)


class StepModel(LatentModel):
    """A model that draws an image in `steps` steps.

    Its state is a NamedTuple of tensors (B, …), one of which is y.
    """

    observed: ClassVar[tuple[str, ...]] = ()
    """Fields of the state that `observe` fills in; no step changes them."""

    # ---- what a model declares: steps, latents, likelihood(state), and these --------------------

    @abstractmethod
    def start(self, y: Tensor) -> Any:
        """Return the state before the first step, for images with the labels y (B, classes)."""

    def observe(self, x: Tensor, state: Any) -> Any:
        """Return the state before the first step with what `infer` takes from x once an image."""
        return state

    @abstractmethod
    def infer(self, x: Tensor, state: Any) -> tuple[Gaussian, Any]:
        """Return q(z_t | x, state), and the state after the encoder's step."""

    @abstractmethod
    def prior(self, state: Any) -> Gaussian | None:
        """Return p(z_t | state); None stands for N(0, I)."""

    @abstractmethod
    def advance(self, z: Tensor, state: Any) -> Any:
        """Return the state after the decoder has taken z_t and written on the canvas."""

    def windows(self, state: Any) -> dict[str, Tensor]:
        """Return the last step's attention windows ('read', 'write'), raw parameters (B, 5)."""
        return {}

    # ---- what kernels may replace ---------------------------------------------------------------

    def error_image(self, x: Tensor, p: Pixels) -> Tensor:
        """x - E[x] under p: what the canvas lacks, (B, C, H, W).   DRAW (3)"""
        return distributions.error_image(x, p)

    def relative_posterior(self, d: Gaussian, p: Gaussian | None) -> Gaussian:
        """q = N(mu_p + sigma_p d, (sigma_p s)²), where N(d, s²) is q in the prior's units."""
        return distributions.relative_posterior(d, p)

    def sample_and_kl(self, q: Gaussian, p: Gaussian | None, eps: Tensor) -> tuple[Tensor, Tensor]:
        """z ~ q by its noise eps, and KL(q ‖ p), (B,).   DRAW (6), (10)-(11)"""
        return distributions.sample_and_kl(q, p, eps)

    def unroll(self, x: Tensor, eps: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read x and write, a step for each of eps (t, B, *latents): (rate (t, B), state)."""
        rates = []
        for noise in eps:
            q, state = self.infer(x, state)
            z, kl = self.sample_and_kl(q, self.prior(state), noise)
            state = self.advance(z, state)
            rates.append(kl)
        return torch.stack(rates), state

    # ---- what follows ---------------------------------------------------------------------------

    def loss(self, x: Tensor, y: Tensor, noise: NoiseSource, options: LossOptions) -> Terms:
        """The bound, its rate weighted; in evaluation of grey levels also metric cross_entropy.

        That is the mean image's cross-entropy with the intensities, (B,), which is no likelihood.
        """
        b = bound(self, x, self._noise(noise, "latents", x), y, recompute=options.recompute)
        return self.terms(x, b, options)

    def terms(self, x: Tensor, b: "Bound", options: LossOptions) -> Terms:
        """Return the loss and metrics of a bound."""
        rate = b.rate.sum(0)
        metrics = {"nats": b.distortion + rate, "rate": b.rate, "distortion": b.distortion}
        if not self.training and getattr(self.config, "likelihood", "bernoulli") != "bernoulli":
            metrics["cross_entropy"] = distributions.cross_entropy(x, self.likelihood(b.state))
        return Terms(b.distortion + options.kl_weight * rate, metrics)

    def log_weights(self, x: Tensor, y: Tensor, noise: NoiseSource) -> Tensor:
        return log_weights(self, x, self._noise(noise, "importance", x), y)

    def _noise(self, noise: NoiseSource, purpose: str, x: Tensor) -> Tensor:
        return noise.normal(purpose, self.steps, len(x), *self.latents, axis=1)

    def generate_steps(self, eps: Tensor, y: Tensor) -> Iterator[Any]:
        return generate(self, eps, y)

    def decode_steps(self, z: Tensor, y: Tensor) -> Iterator[Any]:
        return decode(self, z, y)

    def redraw_steps(self, x: Tensor, eps: Tensor, y: Tensor) -> Iterator[Redrawn]:
        return redraw(self, x, eps, y)


class Bound(NamedTuple):
    """A one-sample estimate of the variational bound, in nats: -log p(x) <= E[distortion + rate]."""

    distortion: Tensor
    """-log p(x | z_1..T), (B,).   DRAW (9)"""
    rate: Tensor
    """KL(q_t ‖ p_t) of every step, (T, B).   (10)-(11)"""
    state: Any
    """The state after the last step."""

    @property
    def total(self) -> Tensor:
        """distortion + Σ_t rate, (B,): an upper bound on -log p(x) in expectation.   (12)"""
        return self.distortion + self.rate.sum(0)


def bound(
    model: StepModel, x: Tensor, eps: Tensor, y: Tensor | None = None, *, recompute: int = 0
) -> Bound:
    """Unroll the model over x with noise eps.

    recompute: checkpoint every K-th state and recompute the rest in the backward pass; memory
    falls from T to about T/K + K steps, for one more forward pass.  0: keep all.
    """
    sequence = model.unrolled(recompute)
    with sequence:
        state = model.observe(x, model.start(check_inputs(model, eps, y, x)))
        if recompute and torch.is_grad_enabled():
            rates: list[Tensor] = []
            for noise in eps.split(recompute):
                arguments = (model, sequence, x, noise, type(state), *state)
                rate, *parts = checkpoint(_segment, *arguments, use_reentrant=False)
                state = type(state)(*parts)
                rates.append(rate)
            rate = torch.cat(rates)
        else:
            rate, state = model.unroll(x, eps, state)
        likelihood = model.likelihood(state)
    return Bound(-likelihood.log_prob(x), rate, state)


def _segment(
    model: StepModel,
    sequence: AbstractContextManager[Any],
    x: Tensor,
    eps: Tensor,
    kind: type,
    *parts: Tensor,
) -> tuple[Tensor, ...]:
    """Some steps in a row: (rate (t, B), *state)."""
    with sequence:
        rate, state = StepModel.unroll(model, x, eps, kind(*parts))
    return rate, *state


def check_inputs(
    model: StepModel, eps: Tensor, y: Tensor | None = None, x: Tensor | None = None
) -> Tensor:
    """Return y (B, classes) for the images of eps, (B, 0) for None; ValueError if anything misfits."""
    if (eps.shape[0], *eps.shape[2:]) != (model.steps, *model.latents):
        want = f"({model.steps}, B, {', '.join(map(str, model.latents))})"
        raise ValueError(f"noise eps is {tuple(eps.shape)}, the model takes {want}")
    if x is not None and x.shape != (eps.shape[1], *model.shape):
        raise ValueError(f"images x are {tuple(x.shape)}, not {(eps.shape[1], *model.shape)}")
    if (
        x is not None
        and x.device.type == "cpu"
        and not traced()
        and not (x.min() >= 0 and x.max() <= 1)
    ):
        raise ValueError(f"images x are in [0, 1], not from {x.min():g} to {x.max():g}")
    y = eps.new_zeros(eps.shape[1], 0) if y is None else y.to(eps)
    if y.shape != (eps.shape[1], model.classes):
        raise ValueError(
            f"labels y are {tuple(y.shape)}, the model takes {(eps.shape[1], model.classes)}, one-hot"
        )
    return y


def drop_empty(*inputs: T) -> tuple[T, ...]:
    """Return those inputs of a layer that have a width: sizes but 0, tensors (B, K, …) with K > 0."""
    return tuple(k for k in inputs if (k.shape[1] if isinstance(k, Tensor) else k))


@torch.no_grad()
def generate(model: StepModel, eps: Tensor, y: Tensor | None = None) -> Iterator[Any]:
    """Draw by ancestral sampling: the state after every step.   (13)-(16)"""
    sequence = model.unrolled()
    with sequence:
        state = model.start(check_inputs(model, eps, y))
    for noise in eps:
        with sequence:
            p = model.prior(state)
            state = model.advance(noise if p is None else p.sample(noise), state)
        yield state


@torch.no_grad()
def decode(model: StepModel, z: Tensor, y: Tensor | None = None) -> Iterator[Any]:
    """Draw from latents z (T, B, *latents): the state after every step."""
    sequence = model.unrolled()
    with sequence:
        state = model.start(check_inputs(model, z, y))
    for latents in z:
        with sequence:
            state = model.advance(latents, state)
        yield state


@torch.no_grad()
def redraw(model: StepModel, x: Tensor, eps: Tensor, y: Tensor | None = None) -> Iterator[Redrawn]:
    """Read x and draw it again, step by step."""
    sequence = model.unrolled()
    with sequence:
        state = model.observe(x, model.start(check_inputs(model, eps, y, x)))
    for noise in eps:
        with sequence:
            q, state = model.infer(x, state)
            z, p = q.sample(noise), model.prior(state)
            state = model.advance(z, state)
        yield Redrawn(state, q.kl(p), z if p is None else p.standardise(z), q, z)


def reconstruct(model: StepModel, x: Tensor, eps: Tensor, y: Tensor | None = None) -> Iterator[Any]:
    """Read x and draw it again: the state after every step."""
    return (step.state for step in redraw(model, x, eps, y))


def encode(model: StepModel, x: Tensor, eps: Tensor, y: Tensor | None = None) -> Tensor:
    """Return the noise (T, B, *latents) with which `generate` draws what `redraw` draws."""
    return torch.stack([step.noise for step in redraw(model, x, eps, y)])


@torch.no_grad()
def log_weights(model: StepModel, x: Tensor, eps: Tensor, y: Tensor | None = None) -> Tensor:
    """Return log p(x, z) - log q(z | x) for z ~ q, (B,)."""
    with model.unrolled():
        state = model.observe(x, model.start(check_inputs(model, eps, y, x)))
        total = x.new_zeros(len(x))
        for noise in eps:
            q, state = model.infer(x, state)
            z, p = q.sample(noise), model.prior(state)
            total = total + (distributions.standard_log_prob(z) if p is None else p.log_prob(z))
            total = total - q.log_prob(z)
            state = model.advance(z, state)
        return total + model.likelihood(state).log_prob(x)
