"""A small convolutional classifier of images, for the evaluation of samples.

Two convolutions of stride 2 with ReLUs, a layer of features, and the classes' logits.  Its prediction
for a sample shows whether a conditional model drew the requested label; the features of the last
layer but one serve distances between sets of images.

    B images   C H W pixels, values in [0, 1]   K classes   F features
"""

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawnet.data import Dataset, GeneratedImages
from drawnet.data.pipeline import crop
from drawnet.errors import UserError, check_target, schema
from drawnet.errors.schema import PositiveInt, Share
from drawnet.nn import noise
from drawnet.training import checkpoint

ROWS = 1000
"""Images classified at a time."""


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a classifier; the defaults reach 98.5 % on MNIST within two minutes on one core."""

    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    """(C, H, W) of an image."""
    classes: PositiveInt
    """K."""
    channels: PositiveInt = 16
    """Channels of the first convolution; the second has twice as many."""
    features: PositiveInt = 64
    """F, width of the last layer but one."""


@dataclass(frozen=True)
class Header:
    """What a classifier's file says of it; None: not known."""

    classifier: ClassifierConfig
    data: str | None = None
    """Checksum of the images."""
    binary: bool | None = None
    """Whether half of them were binarised."""
    accuracy: Share | None = None
    """On test images."""


class ReferenceClassifier(nn.Module):
    """x (B, C, H, W) in [0, 1] -> logits (B, K)."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        channels, height, width = config.shape
        first, second = config.channels, 2 * config.channels
        self.maps = nn.Sequential(
            nn.Conv2d(channels, first, 5, 2, 2), nn.ReLU(), nn.Conv2d(first, second, 5, 2, 2), nn.ReLU()
        )  # fmt: skip
        grid = -(-height // 4) * -(-width // 4)
        self.hidden = nn.Linear(second * grid, config.features)
        self.out = nn.Linear(config.features, config.classes)
        self.drop = nn.Dropout(0.3)

    def hidden_units(self, x: Tensor) -> Tensor:
        """Return the last layer but one of x (B, C, H, W) in [0, 1]: (B, F), none negative."""
        return self.hidden(self.drop(self.maps(2 * x - 1).flatten(1))).relu()  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden_units(x))  # type: ignore[no-any-return]

    @torch.no_grad()
    def classify(self, x: Tensor) -> Tensor:
        """Return the most likely class of every image, int64 (B,)."""
        self.eval()
        return torch.cat([self(part).argmax(1) for part in x.split(ROWS)])

    @torch.no_grad()
    def confidence(self, x: Tensor) -> Tensor:
        """Return the probability of the most likely class of every image, (B,)."""
        self.eval()
        return torch.cat([self(part).softmax(1).amax(1) for part in x.split(ROWS)])

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Return `hidden_units` of every image, for a distance between sets."""
        self.eval()
        return torch.cat([self.hidden_units(part) for part in x.split(ROWS)])


def fit(
    pixels: Tensor,
    labels: Tensor,
    *,
    levels: int = 256,
    binary: bool = False,
    epochs: int = 10,
    batch: int = 100,
    lr: float = 2e-3,
    seed: int = 0,
    **sizes: int,
) -> ReferenceClassifier:
    """Train a classifier of pixels (N, C, H, W) uint8 of so many levels, labels (N,) int64 from 0 on.

    Adam, with a rate that falls linearly to 0, on images shifted by up to two pixels each way; `binary`:
    half of them, at random, as Bernoulli samples of their intensities, so that it can classify sampled
    pixels as well as means.  The same seed gives the same weights.  sizes: of `ClassifierConfig`.
    """
    shape: Any = tuple(pixels.shape[1:])
    config = ClassifierConfig(shape, int(labels.max()) + 1, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(noise.generator(seed, "classifier").initial_seed())
        network = ReferenceClassifier(config)
        optimizer = torch.optim.Adam(network.parameters(), fused=True)
        steps = epochs * -(-len(pixels) // batch)
        order = (part for _ in range(epochs) for part in torch.randperm(len(pixels)).split(batch))
        for k, indices in enumerate(order):
            x = shifted(pixels[indices].float() / (levels - 1))
            if binary:
                drawn = (torch.rand_like(x) < x).float()
                x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, drawn, x)
            loss = F.cross_entropy(network(x), labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.param_groups[0]["lr"] = lr * (1 - k / steps)
            optimizer.step()
    return network.eval()


def shifted(x: Tensor, by: int = 2) -> Tensor:
    """Shift every image (B, C, H, W) by up to `by` pixels each way, repeating its border."""
    height, width = x.shape[2:]
    wide = F.pad(x, (by, by, by, by), mode="replicate")
    rows, columns = (
        torch.randint(2 * by + 1, (len(x), 1)) + torch.arange(side) for side in (height, width)
    )
    images = torch.arange(len(x))[:, None, None]
    return wide[images, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def cached(path: Path, data: Dataset, *, binary: bool = False) -> ReferenceClassifier:
    """Load the classifier at this path, or train one and save it there if that is not of these images.

    UserError if the images have no labels, or are generated on access.
    """
    identity = {"data": data.checksum, "binary": binary}
    with contextlib.suppress(UserError):  # none yet, or damaged
        network, header = load(path)
        if {name: getattr(header, name) for name in identity} == identity:
            return network
    check_target(path)
    images = data.splits["train"]
    if images.labels is None or isinstance(images.pixels, GeneratedImages):
        raise UserError(f"{data.name} has no labelled images to train a classifier on")
    pixels = crop(torch.from_numpy(images.pixels), data.shape)
    labels = torch.from_numpy(images.labels)
    network = fit(pixels, labels, levels=data.levels, binary=binary)
    save(path, network, identity)
    return network


def save(path: Path, network: ReferenceClassifier, header: dict[str, Any]) -> None:
    """Write a classifier; `header` holds further metadata (accuracy, data)."""
    identity = {**header, "classifier": asdict(network.config)}
    checkpoint.save_tensors(path, network.state_dict(), identity)


def load(path: Path) -> tuple[ReferenceClassifier, Header]:
    """Read a classifier and its header from a file that `save` wrote; UserError if it is not one."""
    tensors, values = checkpoint.load_tensors(path)
    header = schema.convert(values, Header, path)
    with torch.device("meta"):
        checkpoint.fits(ReferenceClassifier(header.classifier), tensors, path)
    network = ReferenceClassifier(header.classifier)
    checkpoint.put(network, tensors, path)
    return network.eval(), header
