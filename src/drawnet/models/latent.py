"""What one does with a trained model that draws in steps: images and labels in, images and latents out.

    B images   T steps   x (B, C, H, W) in [0, 1]   z latents (T, B, *latents)

Noise is keyed by seed and an image's index: results do not depend on the batching.  Results are on the
CPU, wherever the model is.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from drawnet.errors import UserError
from drawnet.models.base import LikelihoodModel, batches, check_count, request_labels
from drawnet.models.display import as_images
from drawnet.nn.distributions import Gaussian, Pixels, spherical
from drawnet.nn.noise import generator, normal_each, uniform_each

PROPOSALS = 32
"""Number of samples from which a completion chooses its start."""


class Latents(NamedTuple):
    """What a model makes of B images, each (T, B, *latents), (T, B, Z) in DRAW."""

    mu: Tensor
    """Mean of q(z_t | x, z_<t), given the z that were drawn before.   DRAW (1)"""
    log_sigma: Tensor
    """Logarithm of its standard deviation.   (2)"""
    z: Tensor
    """One draw of z_1..T ~ q.   (6)"""


class Redrawn(NamedTuple):
    """A step of reading an image and drawing it again."""

    state: Any
    """The state after the step."""
    rate: Tensor
    """KL(q_t ‖ p_t) in nats, (B,).   (10)-(11)"""
    noise: Tensor
    """(z_t - mu_p) / sigma_p, (B, *latents): the noise with which `generate` draws the same."""
    q: Gaussian
    """q(z_t | x, z_<t)."""
    z: Tensor
    """What was drawn of it, (B, *latents)."""


class LatentModel(LikelihoodModel):
    """A model with latents z_1..T that are inferred from an image, and from which one is drawn."""

    steps: int
    """T, the number of steps."""
    latents: tuple[int, ...]
    """Shape of one step's z without the batch: (Z,)."""

    @abstractmethod
    def likelihood(self, state: Any) -> Pixels:
        """Return the distribution over images that the state's canvas stands for."""

    @abstractmethod
    def generate_steps(self, eps: Tensor, y: Tensor) -> Iterator[Any]:
        """Draw by ancestral sampling from noise (T, B, *latents): the state after every step."""

    @abstractmethod
    def decode_steps(self, z: Tensor, y: Tensor) -> Iterator[Any]:
        """Draw from latents z (T, B, *latents): the state after every step."""

    @abstractmethod
    def redraw_steps(self, x: Tensor, eps: Tensor, y: Tensor) -> Iterator[Redrawn]:
        """Read x and draw it again with noise eps (T, B, *latents), step by step."""

    def encode(
        self, images: Any, y: Any = None, seed: int = 0, *, temperature: float = 1.0
    ) -> Latents:
        """Return the posterior q(z | x) of images and a draw of it, each (T, B, *latents).

        z_t = mu_t + temperature · sigma_t · eps_t, eps ~ N(0, I) from the seed; with temperature 0,
        z = mu.  images: (B, C, H, W), array or tensor, in [0, 1].  y: for a conditional model the labels
        (B,), or their encoding.  UserError for anything else.
        """
        x, y = self.check_images(images), self.check_labels(y, len(images))
        parts: list[Latents] = []
        for part in batches(len(x)):
            eps = temperature * latent_noise(self, seed, "redraw", part)
            rows = slice(part.start, part.stop)
            steps = self.redraw_steps(x[rows].to(self.device), eps, y[rows])
            found = [(*step.q, step.z) for step in steps]
            parts.append(Latents(*(torch.stack(each).cpu() for each in zip(*found, strict=True))))
        return Latents(*(torch.cat(each, 1) for each in zip(*parts, strict=True)))

    @torch.no_grad()
    def decode(self, latents: Latents | Tensor, y: Any = None) -> Tensor:
        """Return the images for which latents stand: means of the pixels E[x | z], (B, C, H, W).

        latents: z (T, B, *latents), or what `encode` returns, whose z then gives the reconstruction.
        y: as for `encode`.  UserError for another shape.
        """
        z = torch.as_tensor(latents.z if isinstance(latents, Latents) else latents)
        if z.dim() < 2 or (len(z), *z.shape[2:]) != (self.steps, *self.latents):
            want = ", ".join(map(str, self.latents))
            raise UserError(f"latents are {tuple(z.shape)}, not ({self.steps}, B, {want})")
        z, y = z.to(next(self.parameters())), self.check_labels(y, z.shape[1])
        rows = [slice(part.start, part.stop) for part in batches(z.shape[1])]
        parts = [last_mean(self, self.decode_steps(z[:, k], y[k])) for k in rows]
        return as_images(torch.cat(parts))

    def sample(
        self,
        n: int = 64,
        *,
        labels: Sequence[int] = (),
        seed: int = 0,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw n images from the prior: means of the pixels, (n, C, H, W) in [0, 1].   (13)-(16)

        labels: those that a conditional model draws, in turn; none: all its classes in turn.
        temperature: scale of the latents' sigma.  UserError for a label that it has not.
        """
        request_labels(self, labels, range(1), "label")
        how: Any = {"labels": labels, "seed": seed, "temperature": temperature}
        parts = [last_mean(self, sampling(self, k, **how)) for k in batches(check_count("n", n))]
        return as_images(torch.cat(parts))

    def reconstruct(self, images: Any, y: Any = None, seed: int = 0) -> Tensor:
        """Read images and draw them again: means of the pixels E[x | z], z ~ q, (B, C, H, W).

        Arguments as for `encode`, of which this is the decoding.
        """
        return self.decode(self.encode(images, y, seed), y)

    def complete(
        self,
        image: Any,
        known: Any,
        n: int = 6,
        *,
        labels: Sequence[int] = (),
        seed: int = 0,
        rounds: int = 16,
    ) -> Tensor:
        """Fill the missing pixels of an image (C, H, W) in n ways: (n, C, H, W).

        known: (H, W), true where a pixel is given; what `image` holds elsewhere does not matter.
        labels: one for all or one for each; none: those of the starts, chosen from samples of all.
        rounds: of the chain of `completing`.  UserError for other shapes.
        """
        check_count("n", n)
        request_labels(self, labels, range(1), "label")
        known = torch.as_tensor(known).bool()
        if known.shape != self.shape[1:]:
            raise UserError(f"known is {tuple(known.shape)}, the pixels are {self.shape[1:]}")
        x = torch.as_tensor(image).cpu()
        x = self.check_images(torch.where(known, x, torch.zeros_like(x))[None])[0]
        chain = completing(self, x, known, n, labels=labels, seed=seed, rounds=rounds)
        return as_images(deque(chain, 1).pop())

    def interpolate(
        self, first: Any, last: Any, n: int = 9, *, labels: Sequence[int] = (), seed: int = 0
    ) -> Tensor:
        """Go from one image (C, H, W) to another in n images, their own redrawings included.

        In the space of the noise that draws them, on a great circle (`morphing`).  labels: for a
        conditional model, of both images.  Returns (n, C, H, W); UserError for other shapes.
        """
        pair = torch.cat([self.check_images(torch.as_tensor(k)[None]) for k in (first, last)])
        if self.classes and len(labels) not in (1, 2):
            raise UserError("the model is conditional: give labels=[first, last]")
        check_count("n", n, 2)
        request_labels(self, labels, range(1), "label")
        return as_images(last_mean(self, morphing(self, pair, n, labels=labels, seed=seed)))


# ---- by seed and index --------------------------------------------------------------------------


def latent_noise(model: LatentModel, seed: int, purpose: str, images: range) -> Tensor:
    """Return noise (T, len(images), *latents), keyed by image, where the model lies."""
    eps = normal_each(seed, purpose, images, model.steps, *model.latents)
    return eps.transpose(0, 1).to(next(model.parameters()))


@torch.no_grad()
def last_mean(model: LatentModel, states: Iterator[Any]) -> Tensor:
    """Return the mean image of the last state, (n, C, H, W) in [0, 1], on the CPU."""
    return model.likelihood(deque(states, 1).pop()).mean.float().clamp(0, 1).cpu()


def sampling(
    model: LatentModel,
    images: range,
    *,
    labels: Sequence[int] = (),
    seed: int = 0,
    temperature: float = 1.0,
) -> Iterator[Any]:
    """Yield the states of samples by index, step by step, as in `LatentModel.sample`."""
    eps = temperature * latent_noise(model, seed, "sample", images)
    return model.generate_steps(eps, request_labels(model, labels or range(model.classes), images))


def morphing(
    model: LatentModel, pair: Tensor, n: int, *, labels: Sequence[int] = (), seed: int = 0
) -> Iterator[Any]:
    """Yield the states of n images interpolated between the two of a pair (2, C, H, W).

    Each is encoded as the noise that redraws it, both with the same posterior noise, so that what
    neither image determines stays the same; between them the path is `spherical`, and labels are
    interpolated linearly.
    """
    eps = latent_noise(model, seed, "morph", range(1)).repeat(1, 2, *[1] * len(model.latents))
    y = request_labels(model, labels, range(2))
    steps = model.redraw_steps(pair.to(model.device), eps, y)
    start, end = torch.stack([step.noise for step in steps]).cpu().unbind(1)
    share = torch.linspace(0, 1, n)
    fading = (1 - share)[:, None] * y[0] + share[:, None] * y[1]
    path = spherical(start, end, share).to(model.device)
    return model.generate_steps(path, fading)


@torch.no_grad()
def completing(
    model: LatentModel,
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
        *_, step = model.redraw_steps(filled, latent_noise(model, seed, f"chain {k}", images), y)
        pixels = model.likelihood(step.state)
        yield torch.where(known, x, pixels.mean.clamp(0, 1)).cpu()


def _proposed(
    model: LatentModel, x: Tensor, known: Tensor, n: int, labels: Sequence[int], seed: int
) -> tuple[Pixels, Tensor]:
    """Return the starts of n chains, each one of `PROPOSALS` samples, and their labels y."""
    rows = range(n * PROPOSALS)
    every = [labels[k // PROPOSALS % len(labels)] for k in rows] if labels else range(model.classes)
    y = request_labels(model, every, rows)
    *_, state = model.generate_steps(latent_noise(model, seed, "propose", rows), y)
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
