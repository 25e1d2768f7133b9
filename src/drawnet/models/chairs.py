"""Learning to generate chairs (Dosovitskiy, Springenberg, Brox 2015, arXiv 1411.5928).

A generator from style, viewpoint and transformation to an image and its mask; it is deterministic.

    h        = FC(FC([FC(FC(style)), FC(FC(view)), FC(FC(theta))]))     leaky ReLUs
    picture  = conv(unpool(… conv(unpool(W h))))           the mask likewise, with other weights
    loss     = 10 Σ (s - ŝ)² + Σ (m - m̂)²                 s, m: picture, mask; ^: the network's

Unpooling pads every value with three zeros; with the convolution behind it this is a transposed
convolution of stride 2.  The background is white; the network outputs how much darker a pixel is.

    x      picture and mask side by side, (B, C + 1, S, S) in [0, 1], or a picture alone
    y      style one-hot, sin and cos of azimuth and elevation: (B, styles + 4)
    theta  parameters of the transformation, all 0: none, (B, 9)      B   pictures
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawnet.data._transformations import SPREAD, drawn, transformed
from drawnet.data.chairs import AZIMUTHS, VIEWS, encoded
from drawnet.data.pipeline import one_hot
from drawnet.errors import schema
from drawnet.errors.schema import PositiveInt
from drawnet.models.base import Downsamples, ImplicitModel, LossOptions, Terms
from drawnet.nn.noise import NoiseSource


@dataclass(frozen=True)
class ChairsConfig:
    """Sizes of the generator; the defaults are a quarter of the paper's width, for a small machine."""

    classes: PositiveInt = 320 * len(VIEWS)
    """Pictures that there can be: chairs (styles) times views."""
    units: PositiveInt = 512
    """Of the layers for style, view and transformation each (the paper: 512)."""
    joint: PositiveInt = 1024
    """Of the two layers behind them (the paper: 1024)."""
    features: PositiveInt = 64
    """Channels of the smallest map, half as many after each unpooling (the paper: 256, 92, 92, 48)."""
    num_downsamples: Downsamples = 3
    """Unpoolings between the smallest map and the picture."""
    transform: bool = True
    """Whether training transforms the pictures, with the parameters as an input of the network."""

    def __post_init__(self) -> None:
        schema.check(self, "--model.")

    @property
    def styles(self) -> int:
        """How many chairs there are."""
        return -(-self.classes // len(VIEWS))


def two(inputs: int, outputs: int) -> nn.Sequential:
    """Two layers of leaky ReLUs: (B, inputs) -> (B, outputs)."""
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        linear = nn.Linear(width, outputs)
        nn.init.kaiming_normal_(linear.weight, 0.2)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


class Stream(nn.Module):
    """From the joint layer to maps as large as the picture: (B, joint) -> (B, channels, S, S)."""

    def __init__(self, config: ChairsConfig, channels: int, side: int) -> None:
        super().__init__()
        self.side, self.grid = side, -(-side // 2**config.num_downsamples)
        widths = [max(channels, config.features >> k) for k in range(config.num_downsamples)]
        self.first = nn.Linear(config.joint, widths[0] * self.grid**2)
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 5, 2, 2, 1)
            for a, b in zip(widths, [*widths[1:], channels], strict=True)
        )

    def forward(self, h: Tensor) -> Tensor:
        maps = self.first(h).view(h.shape[0], -1, self.grid, self.grid)
        for layer in self.layers:
            maps = layer(F.leaky_relu(maps, 0.2))
        return maps[..., : self.side, : self.side]  # type: ignore[no-any-return]


class Chairs(ImplicitModel):
    """The generator of pictures and masks from style, view and transformation."""

    selection_metric = "picture"

    def __init__(self, config: ChairsConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape, self.classes = config, shape, config.classes
        self.colours = shape[0] - (shape[0] in (2, 4))
        self.style, self.view = two(config.styles, config.units), two(4, config.units)
        self.theta = two(len(SPREAD), config.units)
        self.joint = two(3 * config.units, config.joint)
        self.picture = Stream(config, self.colours, max(shape[1:]))
        masked = shape[0] > self.colours
        self.mask = Stream(config, 1, max(shape[1:])) if masked else None

    @staticmethod
    def encode_labels(labels: Tensor, classes: int) -> Tensor:
        """Labels 62 · style + view -> (n, styles + 4)."""
        styles = -(-classes // len(VIEWS))
        views = torch.from_numpy(encoded(VIEWS)).to(labels.device)
        return torch.cat([one_hot(labels // len(VIEWS), styles), views[labels % len(VIEWS)]], 1)

    def forward(self, y: Tensor, theta: Tensor | None = None) -> Tensor:
        """Pictures, ground white, and masks: (B, C + 1, S, S), not held to [0, 1].

        Styles and views between those that were learned are as good: y need not be one-hot.
        """
        theta = y.new_zeros(y.shape[0], len(SPREAD)) if theta is None else theta
        style, view = y.split([self.config.styles, 4], 1)
        h = self.joint(torch.cat([self.style(style), self.view(view), self.theta(theta)], 1))
        picture: Tensor = 1 - self.picture(h)
        if self.mask is None:
            return picture[..., : self.shape[1], : self.shape[2]]
        return torch.cat([picture, self.mask(h)], 1)[..., : self.shape[1], : self.shape[2]]

    def loss(self, x: Tensor, y: Tensor, noise: NoiseSource, options: LossOptions) -> Terms:
        """The paper's loss; metrics: it, and mean squared errors of picture (on white) and mask."""
        theta = None
        if self.training and self.config.transform and self.mask is not None:
            theta = drawn(noise.uniform("transformation", len(x), len(SPREAD)))
            x = torch.cat(transformed(x[:, : self.colours], x[:, self.colours :], theta), 1)
        with self.autocast():
            made = self(y, theta).float()
        picture = (made - x)[:, : self.colours]
        error = (picture**2).flatten(1)
        metrics = {"picture": error.mean(1)}
        loss = 10 * error.sum(1)
        if self.mask is not None:
            mask = ((made - x)[:, self.colours :] ** 2).flatten(1)
            loss, metrics["mask"] = loss + mask.sum(1), mask.mean(1)
        return Terms(loss, metrics | {"loss": loss})

    def frames(self, n: int, noise: NoiseSource) -> Tensor:
        """n chairs, any of those learned, turned once round at the first elevation: T = 31."""
        styles, classes = self.config.styles, self.classes
        chosen = (noise.uniform("style", n) * styles).long().clamp(max=styles - 1)
        views = [view % AZIMUTHS for view in range(AZIMUTHS + 1)]
        encoded_views = [self.encode_labels(chosen * len(VIEWS) + view, classes) for view in views]
        return torch.stack([self(y).clamp(0, 1)[:, : self.colours] for y in encoded_views])


Config, Model = ChairsConfig, Chairs
