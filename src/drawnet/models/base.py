"""What the loop trains: a network that has an objective, and what its measures mean.

Step models (`step.py`) derive theirs from the bound; a model of another kind gives its own.
"""

from abc import abstractmethod
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawnet.data.pipeline import one_hot


class NoiseSource(Protocol):
    """Where noise comes from: a training step's (`randomness.Noise`) or each image's own."""

    def normal(self, purpose: str, *shape: int, axis: int = 0) -> Tensor:
        """N(0, 1) of this shape, whose `axis` counts the images."""

    def uniform(self, purpose: str, *shape: int, axis: int = 0) -> Tensor:
        """U(0, 1), likewise."""


class LossOptions(NamedTuple):
    """How an objective is computed.

    precision  operand type of the matrix products, None for the model's own
    recompute  keep only every so-manieth step's state for the backward pass; 0: all of them
    kl_weight  weight of the rate in a step model's loss
    player     whose objective is asked for, of several that train a model
    """

    precision: torch.dtype | None = None
    recompute: int = 0
    kl_weight: float = 1.0
    player: str = ""


def products(precision: torch.dtype | None) -> torch.autocast:
    """In here PyTorch's own layers multiply operands of this precision; their outputs are of it too."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16)


class Terms(NamedTuple):
    """What a batch of B images says of a model.

    loss      (B,), whose mean is minimised
    measures  name -> (B,): what is reported, in nats unless the name says otherwise; none of them
              is weighted, and the learner's criterion is among them
    """

    loss: Tensor
    measures: dict[str, Tensor]


class Model(nn.Module):
    """A network with an objective over images."""

    config: Any
    shape: tuple[int, int, int]
    """(C, H, W) of an image."""
    classes: int = 0
    """Classes of images that the model is told of; 0: none."""
    selection_metric: str = "nats"
    """The measure by which validation judges; the lower the better."""
    players: tuple[str, ...] = ("",)
    """Who takes a step on every batch, in turn: each trains the parameters whose names begin so."""

    @staticmethod
    def encode_labels(labels: Tensor, classes: int) -> Tensor:
        """What the model is told of images with these labels, int64 (n,): y (n, …), one-hot here."""
        return one_hot(labels, classes)

    @abstractmethod
    def objective(self, x: Tensor, y: Tensor, noise: NoiseSource, how: LossOptions) -> Terms:
        """x (B, C, H, W) in [0, 1]; y what the model is told of them; noise, keyed."""

    def init_from_mean(self, mean: Tensor) -> None:
        """Before training, see the mean training image (C, H, W) in [0, 1]; the default ignores it."""


class Costs(NamedTuple):
    """What a batch of B images costs by one draw of z, in nats: E[distortion + Σ rate] bounds."""

    distortion: Tensor
    """-log p(x | z), (B,)."""
    rate: Tensor
    """KL or its estimate, of T steps, (T, B)."""
    cross_entropy: Tensor | None = None
    """Of grey intensities and the model's mean image, (B,), which is no likelihood."""


class LikelihoodModel(Model):
    """A learner that bounds -log p(x) with latents z, or knows it."""

    exact: bool = False
    """Whether it has no latents: then `costs` are -log p(x) itself."""

    @abstractmethod
    def costs(
        self, x: Tensor, y: Tensor, noise: NoiseSource, precision: torch.dtype | None = None
    ) -> Costs:
        """By one draw of z; x, y and noise as in `objective`."""

    @abstractmethod
    def log_weights(
        self, x: Tensor, y: Tensor, noise: NoiseSource, precision: torch.dtype | None = None
    ) -> Tensor:
        """log p(x, z) - log q(z | x) of one draw of z, (B,): their log-mean-exp bounds log p(x)."""


class ImplicitModel(Model):
    """A learner that makes images, though it is no step model: a chain, say, or an adversary."""

    @abstractmethod
    def frames(self, n: int, noise: NoiseSource) -> Tensor:
        """The making of n images, (T+1, n, C, H, W) in [0, 1], from the start to the samples."""


class Classifier(Model):
    """A classifier of images."""

    selection_metric = "error"

    @abstractmethod
    def logits(self, x: Tensor, precision: torch.dtype | None = None) -> Tensor:
        """x (B, C, H, W) in [0, 1] -> (B, K)."""

    def objective(self, x: Tensor, y: Tensor, noise: NoiseSource, how: LossOptions) -> Terms:
        """-log p(class | x), nats; measures: that, and error, 1 where the likeliest is wrong."""
        logits = self.logits(x, how.precision)
        loss = F.cross_entropy(logits, y, reduction="none")
        wrong = (logits.argmax(1) != y.argmax(1)).float()
        return Terms(loss, {"cross_entropy": loss, "error": wrong})

    @torch.no_grad()
    def classify(self, x: Tensor) -> Tensor:
        """p(class | x) of every image, (B, K)."""
        self.eval()
        return self.logits(x).softmax(1)
