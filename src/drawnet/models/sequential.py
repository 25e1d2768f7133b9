"""The step contract, and everything that is written once over it.

A sequential latent-variable model is five functions of its state: `start`, `infer`, `prior`,
`advance` and `likelihood`.  From these follow the variational bound, the importance-weighted
bound, ancestral sampling, reconstruction and the film of both.

    B images   T steps   Z latents a step   K importance samples   (all log-probabilities in nats)
    y labels, one-hot (B, classes); (B, 0) for a model that is told nothing
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from drawnet.models.base import Costs, LikelihoodModel, LossOptions, NoiseSource, Terms
from drawnet.nn import distributions
from drawnet.nn.distributions import Gaussian, Pixels
from drawnet.nn.recurrent import Unrolled

T = TypeVar("T", int, Tensor)


class StepModel(LikelihoodModel):
    """A model that draws an image in `steps` steps.

    Its state is a NamedTuple of tensors (B, …), one of which is y.
    """

    steps: int
    """T, the number of steps."""
    latents: tuple[int, ...]
    """Shape of one step's z without the batch: (Z,)."""

    @abstractmethod
    def start(self, y: Tensor) -> Any:
        """The state before the first step, of images with the labels y (B, classes), one-hot."""

    @abstractmethod
    def infer(self, x: Tensor, state: Any) -> tuple[Gaussian, Any]:
        """q(z_t | x, state), and the state with the encoder moved on; x is (B, C, H, W) in [0, 1]."""

    @abstractmethod
    def prior(self, state: Any) -> Gaussian | None:
        """p(z_t | state); None stands for N(0, I)."""

    @abstractmethod
    def advance(self, z: Tensor, state: Any) -> Any:
        """The state after the decoder has taken z_t and written on the canvas."""

    @abstractmethod
    def likelihood(self, state: Any) -> Pixels:
        """The distribution over images that the state's canvas stands for."""

    def objective(self, x: Tensor, y: Tensor, noise: NoiseSource, how: LossOptions) -> Terms:
        """The bound, its rate weighted; measures: nats = rate + distortion, both unweighted."""
        b = self._bound(x, y, noise, how)
        rate, distortion = b.rate.sum(0), b.distortion
        measures = {"nats": distortion + rate, "rate": rate, "distortion": distortion}
        return Terms(distortion + how.kl_weight * rate, measures)

    def costs(
        self, x: Tensor, y: Tensor, noise: NoiseSource, precision: torch.dtype | None = None
    ) -> Costs:
        """`bound`'s distortion and rate; of grey levels, the canvas's cross-entropy too."""
        b = self._bound(x, y, noise, LossOptions(precision))
        if getattr(self.config, "likelihood", "bernoulli") == "bernoulli":
            return Costs(b.distortion, b.rate)
        return Costs(b.distortion, b.rate, distributions.cross_entropy(x, self.likelihood(b.state)))

    def _bound(self, x: Tensor, y: Tensor, noise: NoiseSource, how: LossOptions) -> "Bound":
        """`bound` with latents of the noise's own."""
        eps = noise.normal("latents", self.steps, len(x), *self.latents, axis=1)
        return bound(self, x, eps, y=y, precision=how.precision, recompute=how.recompute)

    def log_weights(
        self, x: Tensor, y: Tensor, noise: NoiseSource, precision: torch.dtype | None = None
    ) -> Tensor:
        """`step.log_weights` of latents of their own."""
        eps = noise.normal("importance", self.steps, len(x), *self.latents, axis=1)
        return log_weights(self, x, eps, y, precision=precision)

    def windows(self, state: Any) -> dict[str, Tensor]:
        """Attention windows of the last step by name ('read', 'write'), raw parameters (B, 5)."""
        return {}


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
    model: StepModel,
    x: Tensor,
    eps: Tensor,
    y: Tensor | None = None,
    *,
    precision: torch.dtype | None = None,
    recompute: int = 0,
) -> Bound:
    """Unroll the model over x (B, C, H, W) with noise eps (T, B, *latents).

    y: labels, see `labelled`.
    precision: operand type of the matrix products, None for the model's own.
    recompute: keep only every so-manieth state for the backward pass and compute the others again;
    memory falls from T to about T/recompute + recompute steps, for one more forward pass.
    """
    with Unrolled(model, precision, recompute) as session:
        state = model.start(labelled(model, eps, y))
        rates: list[Tensor] = []
        for first in range(0, model.steps, recompute or model.steps):
            noise = eps[first : first + (recompute or model.steps)]
            if recompute and torch.is_grad_enabled():
                kind = type(state)
                rate, *parts = checkpoint(
                    _segment, model, session, x, noise, kind, *state, use_reentrant=False
                )
                state = kind(*parts)
            else:
                rate, *parts = _segment(model, session, x, noise, type(state), *state)
                state = type(state)(*parts)
            rates.append(rate)
        likelihood = model.likelihood(state)
    return Bound(-likelihood.log_prob(x), torch.cat(rates), state)


def labelled(model: StepModel, eps: Tensor, y: Tensor | None = None) -> Tensor:
    """y (B, classes), one-hot, for the images of eps (T, B, *latents); None: (B, 0).

    ValueError where that is not what the model is told.
    """
    y = eps.new_zeros(eps.shape[1], 0) if y is None else y.to(eps)
    if y.shape != (eps.shape[1], model.classes):
        raise ValueError(
            f"labels y are {tuple(y.shape)}, the model takes {(eps.shape[1], model.classes)}, one-hot"
        )
    return y


def drop_empty(*inputs: T) -> tuple[T, ...]:
    """Those inputs of a layer that have a width: sizes but 0, tensors (B, K, …) with K > 0."""
    return tuple(k for k in inputs if (k.shape[1] if isinstance(k, Tensor) else k))


def _segment(
    model: StepModel, session: Unrolled, x: Tensor, eps: Tensor, kind: type, *parts: Tensor
) -> tuple[Tensor, ...]:
    """Some steps in a row: (rate (t, B), *state)."""
    state, rates = kind(*parts), []
    with session:
        for noise in eps:
            q, state = model.infer(x, state)
            z, kl = distributions.sample_and_kl(q, model.prior(state), noise)
            state = model.advance(z, state)
            rates.append(kl)
    return torch.stack(rates), *state


@torch.no_grad()
def generate(
    model: StepModel, eps: Tensor, y: Tensor | None = None, *, precision: torch.dtype | None = None
) -> Iterator[Any]:
    """Ancestral sampling with noise eps (T, B, *latents): the state after every step.   (13)-(16)"""
    with Unrolled(model, precision) as session:
        state = model.start(labelled(model, eps, y))
    for noise in eps:
        with session:
            p = model.prior(state)
            state = model.advance(noise if p is None else p.sample(noise), state)
        yield state


class Redrawn(NamedTuple):
    """A step of reading an image and drawing it again."""

    state: Any
    """The state after the step."""
    rate: Tensor
    """KL(q_t ‖ p_t) in nats, (B,).   (10)-(11)"""
    noise: Tensor
    """(z_t - mu_p) / sigma_p, (B, *latents): what `generate` needs in order to draw the same."""


@torch.no_grad()
def redraw(
    model: StepModel,
    x: Tensor,
    eps: Tensor,
    y: Tensor | None = None,
    *,
    precision: torch.dtype | None = None,
) -> Iterator[Redrawn]:
    """Read x (B, C, H, W) and draw it again with noise eps (T, B, *latents), step by step."""
    with Unrolled(model, precision) as session:
        state = model.start(labelled(model, eps, y))
    for noise in eps:
        with session:
            q, state = model.infer(x, state)
            z, p = q.sample(noise), model.prior(state)
            state = model.advance(z, state)
        yield Redrawn(state, q.kl(p), z if p is None else p.standardise(z))


def reconstruct(
    model: StepModel,
    x: Tensor,
    eps: Tensor,
    y: Tensor | None = None,
    *,
    precision: torch.dtype | None = None,
) -> Iterator[Any]:
    """Read x and redraw it with noise eps (T, B, *latents): the state after every step."""
    return (moment.state for moment in redraw(model, x, eps, y, precision=precision))


def encode(
    model: StepModel,
    x: Tensor,
    eps: Tensor,
    y: Tensor | None = None,
    *,
    precision: torch.dtype | None = None,
) -> Tensor:
    """The noise (T, B, *latents) with which `generate` draws what `redraw` draws of x and eps."""
    moments = redraw(model, x, eps, y, precision=precision)
    return torch.stack([moment.noise for moment in moments])


@torch.no_grad()
def log_weights(
    model: StepModel,
    x: Tensor,
    eps: Tensor,
    y: Tensor | None = None,
    *,
    precision: torch.dtype | None = None,
) -> Tensor:
    """log p(x, z) - log q(z | x) for z ~ q, (B,): their log-mean-exp over draws bounds log p(x).

    (Burda et al. 2015, arXiv 1509.00519.)  x: (B, C, H, W); eps: (T, B, *latents); y: `labelled`.
    """
    with Unrolled(model, precision):
        state = model.start(labelled(model, eps, y))
        total = torch.zeros(len(x), device=x.device)
        for noise in eps:
            q, state = model.infer(x, state)
            z, p = q.sample(noise), model.prior(state)
            total = total + (distributions.standard_log_prob(z) if p is None else p.log_prob(z))
            total = total - q.log_prob(z)
            state = model.advance(z, state)
        return total + model.likelihood(state).log_prob(x)
