"""A plain convolutional classifier, the baseline of cluttered MNIST (Mnih et al. 2014, 1406.6247).

h            = ReLU(conv(x))           8 filters of 10 × 10, stride 5
p(class | x) = softmax(W ReLU(W h))    256 hidden units

x   image (B, C, H, W), values in [0, 1]      B   images
"""

import math
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn

from drawnet.errors import schema
from drawnet.errors.schema import Ge, PositiveInt
from drawnet.models.base import Classifier
from drawnet.nn.recurrent import Linear


@dataclass(frozen=True)
class ConvNetConfig:
    """Sizes of the classifier; the defaults are the baseline's."""

    channels: PositiveInt = 8
    """Filters of the convolution."""
    kernel: PositiveInt = 10
    """Side of a filter."""
    stride: PositiveInt = 5
    units: PositiveInt = 256
    """Hidden units behind the convolution."""
    classes: Annotated[int, Ge(2)] = 10
    """Classes of images."""

    def __post_init__(self) -> None:
        schema.check(self, "--model.")


class ConvNet(Classifier):
    """A layer of convolution and a hidden layer."""

    def __init__(self, config: ConvNetConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape, self.classes = config, shape, config.classes
        padding = config.kernel // 2
        sides = [(n + 2 * padding - config.kernel) // config.stride + 1 for n in shape[1:]]
        self.maps = nn.Conv2d(shape[0], config.channels, config.kernel, config.stride, padding)
        self.hidden = Linear(config.channels * math.prod(sides), config.units)
        self.out = Linear(config.units, config.classes)

    def logits(self, x: Tensor) -> Tensor:
        with self.unrolled():
            h = self.hidden(self.maps(x).relu().flatten(1)).relu()
            return self.out(h)  # type: ignore[no-any-return]


Config, Model = ConvNetConfig, ConvNet
