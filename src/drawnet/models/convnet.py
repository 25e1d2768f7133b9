"""A plain convolutional classifier, the baseline of cluttered MNIST (Mnih et al. 2014, 1406.6247).

h            = ReLU(conv(x))           8 filters of 10 × 10, stride 5
p(class | x) = softmax(W ReLU(W h))    256 hidden units

x   image (B, C, H, W), values in [0, 1]      B   images
"""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from drawnet.errors import at_least
from drawnet.models.base import Classifier
from drawnet.nn.recurrent import Linear


@dataclass(frozen=True)
class ConvNetConfig:
    """Sizes of the classifier; the defaults are the baseline's."""

    channels: int = 8
    """Filters of the convolution."""
    kernel: int = 10
    """Side of a filter."""
    stride: int = 5
    units: int = 256
    """Hidden units behind the convolution."""
    classes: int = 10
    """Classes of images."""

    def __post_init__(self) -> None:
        at_least(self, 1, "channels", "kernel", "stride", "units")
        at_least(self, 2, "classes")


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
