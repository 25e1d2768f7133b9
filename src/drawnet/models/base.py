"""What a model is: a network with a loss over images, and metrics by which it is judged.

    B images   T steps   x (B, C, H, W) in [0, 1]   y labels, encoded (B, …); (B, 0) without labels

Sequential models (`sequential.py`) derive their loss from the variational bound; a model of another
kind states its own.
"""

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawnet.data.pipeline import one_hot
from drawnet.errors import UserError
from drawnet.errors.schema import Ge, Le, rule
from drawnet.nn.noise import NoiseSource
from drawnet.nn.recurrent import Operands

NO_STRIDE = "a window of side 1 has no stride (24)"
Window = Annotated[int, rule(lambda n: n >= 2, f"at least 2: {NO_STRIDE}")]
"""N, side of an attention window."""
WindowIfAny = Annotated[
    int, rule(lambda n: not n or n >= 2, f"at least 2, or 0 for no attention: {NO_STRIDE}")
]
Kernel = Annotated[int, rule(lambda n: n > 0 and n % 2 == 1, "odd: it has a middle")]
Downsamples = Annotated[int, Ge(1), Le(16)]


def check_image(shape: tuple[int, int, int]) -> None:
    """Raise UserError if images (C, H, W) leave a window no way to go."""
    if max(shape[1:]) < 2:
        raise UserError(
            "an attention window (--model.read, --model.write) needs more than one pixel"
        )


class LossOptions(NamedTuple):
    """How a loss is computed."""

    recompute: int = 0
    """Checkpoint every K-th state and recompute the rest in the backward pass; 0: keep all."""
    kl_weight: float = 1.0
    """Weight of the rate in the loss of a model with latents."""
    group: str = ""
    """The parameter group whose loss is asked for; '' for validation."""


class Terms(NamedTuple):
    """What a batch of B images says of a model."""

    loss: Tensor
    """(B,); training minimises its mean."""
    metrics: dict[str, Tensor]
    """What is reported, unweighted and in nats unless the name says otherwise: each (B,), or (T, B)
    for a sum over steps."""


class Model(nn.Module):
    """A network with a loss over images."""

    config: Any
    shape: tuple[int, int, int]
    """(C, H, W) of an image."""
    classes: int = 0
    """Classes of images that the model is conditioned on, or names; 0: none."""
    selection_metric: str = "nats"
    """The metric by which validation selects weights; lower is better."""
    precision: torch.dtype | None = None
    """Type to which operands of the matrix products are rounded; None: that of the weights."""

    @property
    def device(self) -> torch.device:
        """Where the model lies, and its inputs must."""
        return next(self.parameters()).device

    @staticmethod
    def encode_labels(labels: Tensor, classes: int) -> Tensor:
        """Encode labels, int64 (n,), as the model takes them: y (n, …), one-hot here."""
        return one_hot(labels, classes)

    @abstractmethod
    def loss(self, x: Tensor, y: Tensor, noise: NoiseSource, options: LossOptions) -> Terms:
        """Return loss and metrics of a batch; noise is keyed by purpose and image."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters that are updated in turn on every batch, by the group's name."""
        return {"": list(self.parameters())}

    def init_from_mean(self, mean: Tensor) -> None:
        """Start from the mean training image (C, H, W) in [0, 1]; does nothing here."""

    def unrolled(self, steps: int = 0) -> AbstractContextManager[Any]:
        """Return the context of one sequence, with operands of `precision`; it may be entered again.

        The weights stay as they are meanwhile.  steps: how many are unrolled at a time; 0: all.
        """
        return Operands(self, self.precision)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which PyTorch's own layers take operands of `precision`."""
        if self.precision is not torch.bfloat16:
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


class LikelihoodModel(Model):
    """A model that bounds -log p(x) by latents z, or computes it.

    Metrics of its `loss`, by one draw of z: nats (B,), which is distortion (B,), -log p(x | z), plus
    the sum over steps of rate (T, B), KL(q_t ‖ p_t) or its estimate.
    """

    exact: bool = False
    """Whether it has no latents: then nats is -log p(x) itself."""

    @abstractmethod
    def log_weights(self, x: Tensor, y: Tensor, noise: NoiseSource) -> Tensor:
        """Return log p(x, z) - log q(z | x) of one draw of z, (B,).

        Their log-mean-exp over K draws bounds log p(x) (Burda et al. 2015, arXiv 1509.00519).
        """


class ImplicitModel(Model):
    """A model that generates images otherwise than step by step: a chain, say, or an adversary."""

    @abstractmethod
    def frames(self, n: int, noise: NoiseSource) -> Tensor:
        """Return the making of n images, (T+1, n, C, H, W) in [0, 1]; the last are the samples."""


class Classifier(Model):
    """A classifier of images into K classes."""

    selection_metric = "error"

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """Return unnormalised log p(class | x), (B, K)."""

    def loss(self, x: Tensor, y: Tensor, noise: NoiseSource, options: LossOptions) -> Terms:
        """-log p(class | x), nats; metrics: cross_entropy, and error, 1 where the class is wrong."""
        logits = self.logits(x)
        loss = F.cross_entropy(logits, y, reduction="none")
        wrong = (logits.argmax(1) != y.argmax(1)).float()
        return Terms(loss, {"cross_entropy": loss, "error": wrong})

    @torch.no_grad()
    def classify(self, x: Tensor) -> Tensor:
        """Return p(class | x) of every image, (B, K)."""
        self.eval()
        return self.logits(x).softmax(1)
