"""What a model is: a network with a loss over images, and metrics by which it is judged.

    B images   T steps   x (B, C, H, W) in [0, 1]   y labels, encoded (B, …); (B, 0) without labels

Sequential models (`sequential.py`) derive their loss from the variational bound; a model of another
kind states its own.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawnet.data.pipeline import ROWS, one_hot
from drawnet.errors import UserError
from drawnet.errors.schema import Ge, Le, rule
from drawnet.models.display import as_images
from drawnet.nn.noise import DrawNoise, ImageNoise, NoiseSource
from drawnet.nn.recurrent import Operands

BATCH = 64
"""Images drawn at a time."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

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


def check_count(name: str, n: int, least: int = 1) -> int:
    """Return a number of things; UserError if it is too small, or no integer."""
    if not isinstance(n, int) or n < least:
        raise UserError(f"{name} is {n!r}: give an integer of at least {least}")
    return n


def batches(n: int, rows: int = BATCH) -> Iterator[range]:
    """Yield 0 .. n - 1 in ranges of so many rows."""
    return (range(first, min(first + rows, n)) for first in range(0, n, rows))


def _comma(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))


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

    def check_images(self, images: Any) -> Tensor:
        """Return images of any library as the model takes them, (B, C, H, W) in [0, 1], on the CPU.

        UserError for another shape, or for intensities of 0..255.
        """
        x: Tensor = torch.as_tensor(images).detach().cpu()
        if x.dim() != 4 or tuple(x.shape[1:]) != tuple(self.shape) or not len(x):
            raise UserError(
                f"images are {tuple(x.shape)}, the model takes (B, {_comma(self.shape)})"
            )
        if x.dtype not in (torch.bool, *FLOATS):
            raise UserError(f"images are {x.dtype}: give numbers in [0, 1] (0..255: / 255)")
        if not (x.min() >= 0 and x.max() <= 1):
            raise UserError(f"images are in [0, 1], not from {x.min():g} to {x.max():g}")
        dtype: torch.dtype = next(self.parameters()).dtype
        return x.to(dtype)

    def check_labels(self, y: Any, n: int) -> Tensor:
        """Return the encoded labels y of n images, where the model lies; (n, 0) without classes.

        y: None, integers (n,), or encoded already, (n, classes).  UserError for anything else.
        """
        if y is None or not self.classes:
            if self.classes:
                raise UserError("the model is conditional: give y, a label of every image")
            if y is not None and torch.as_tensor(y).numel():
                raise UserError("the model is not conditional: leave out y")
            return torch.zeros(n, 0, device=self.device)
        labels: Tensor = torch.as_tensor(y)
        if labels.shape == (n, self.classes):
            return labels.to(next(self.parameters()))
        if labels.shape != (n,) or labels.is_floating_point():
            have = tuple(labels.shape)
            raise UserError(f"labels are {have}: give {n} integers, or ({n}, classes)")
        return request_labels(self, labels.tolist(), range(n), "label").to(self.device)

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


def request_labels(
    model: Model, labels: Sequence[int], images: range, name: str = "--label"
) -> Tensor:
    """Encode the labels requested for images by index, cycling through them: (len(images), classes).

    UserError for labels that the model does not have, or if it is not conditional.
    """
    if labels and not model.classes:
        raise UserError(f"the model is not conditional: leave out {name}")
    for label in labels:
        if not 0 <= label < model.classes:
            raise UserError(
                f"{name} {label} is not one of the model's classes, 0 to {model.classes - 1}"
            )
    cycle = labels or [0]
    return one_hot(torch.tensor([cycle[k % len(cycle)] for k in images]), model.classes)


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

    def log_prob(
        self, images: Any, y: Any = None, *, importance_samples: int = 1, seed: int = 0
    ) -> Tensor:
        """Estimate log p(x) of every image in nats, (B,) float64.

        log 1/K Σ_k p(x, z_k) / q(z_k | x), z_k ~ q: in expectation a lower bound, the variational one
        for K = importance_samples = 1, and tighter with more (Burda et al. 2015, arXiv 1509.00519).
        images: (B, C, H, W) in [0, 1], 0 or 1 for a model of binary pixels; y: as for `check_labels`.
        UserError for other images, and for a model whose loss is no likelihood.
        """
        x, k = self.check_images(images), check_count("importance_samples", importance_samples)
        likelihood = getattr(self.config, "likelihood", "")
        if likelihood == "cross_entropy":
            raise UserError("the model's cost on intensities is not a likelihood")
        if likelihood == "bernoulli" and not ((x == 0) | (x == 1)).all():
            raise UserError("the model's pixels are binary, and these are not: binarise them first")
        encoded = self.check_labels(y, len(x))
        return -importance_bound(self, x.to(self.device), encoded, range(len(x)), k, seed)


def importance_bound(
    model: LikelihoodModel,
    x: Tensor,
    y: Tensor,
    numbers: range,
    k: int,
    seed: int,
    rows: int = ROWS,
) -> Tensor:
    """-log 1/K Σ_k p(x, z_k)/q(z_k | x) of each image, (B,) float64, `rows` copies at a time."""
    group = max(1, rows // k)
    sums = torch.full((len(x),), -math.inf, dtype=torch.float64)
    for start in range(0, len(x), group):
        images = slice(start, min(start + group, len(x)))
        for first in range(0, k, rows):
            draws = range(first, min(first + rows, k))
            noise = DrawNoise(seed, numbers[images], draws, model.device)
            copies, labels = (part[images].repeat_interleave(len(draws), 0) for part in (x, y))
            w = model.log_weights(copies, labels, noise).cpu().double()
            sums[images] = torch.logaddexp(sums[images], w.view(-1, len(draws)).logsumexp(1))
    return math.log(k) - sums


class ImplicitModel(Model):
    """A model that generates images otherwise than step by step: a chain, say, or an adversary."""

    @abstractmethod
    def frames(self, n: int, noise: NoiseSource) -> Tensor:
        """Return the making of n images, (T+1, n, C, H, W) in [0, 1]; the last are the samples."""

    @torch.no_grad()
    def sample(self, n: int = 64, *, labels: Sequence[int] = (), seed: int = 0) -> Tensor:
        """Draw n images, (n, C, H, W) in [0, 1], on the CPU; UserError if labels are asked for."""
        request_labels(self, labels, range(1), "label")
        parts = batches(check_count("n", n))
        noises = [ImageNoise(seed, part, self.device) for part in parts]
        return as_images(torch.cat([self.frames(len(k.images), k)[-1].cpu() for k in noises]))


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
