"""What the models that put convolutions into DRAW share: sizes, canvas and first states."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from drawnet.errors import at_least
from drawnet.models.sequential import StepModel
from drawnet.nn import distributions
from drawnet.nn.convolution import check_kernel
from drawnet.nn.distributions import Pixels


@dataclass(frozen=True)
class ConvolutionalConfig:
    """Sizes; a model that has others to begin with, or more, says so itself."""

    steps: int = 8
    """T, times that the canvas is read and added to."""
    units: int = 256
    """Units of each LSTM."""
    latents: int = 100
    """Z, latents a step."""
    features: int = 16
    """Channels of the convolutions on either side."""
    num_downsamples: int = 2
    """n, convolutions of stride 2 on either side; behind them is a grid coarser by 2ⁿ."""
    kernel: int = 3
    """Side of every convolution, odd."""
    likelihood: Literal["bernoulli", "logistic", "mixture", "cross_entropy"] = "bernoulli"
    """Binary pixels; 256 grey levels by a logistic or a mixture; or a cost on intensities."""
    components: int = distributions.COMPONENTS
    """Logistics of a mixture."""
    classes: int = 0
    """Classes of images that the model is told; 0: none."""

    def __post_init__(self) -> None:
        at_least(self, 1, "steps", "units", "latents", "features", "num_downsamples", "components")
        at_least(self, 0, "classes")
        check_kernel(self.kernel)


class ConvolutionalDraw(StepModel):
    """A step model with a canvas c and two recurrent networks, whose first states are learned."""

    config: ConvolutionalConfig

    def __init__(
        self, config: ConvolutionalConfig, shape: tuple[int, int, int], *grid: int
    ) -> None:
        """grid: height and width of the recurrent networks' maps; none where they are vectors."""
        super().__init__()
        self.config, self.shape, self.classes = config, shape, config.classes
        self.steps, self.latents = config.steps, (config.latents, *grid)
        self.canvas_channels = distributions.canvas_channels(
            config.likelihood, shape[0], config.components
        )
        self.c = nn.Parameter(torch.zeros(self.canvas_channels, *shape[1:]))
        self.h_enc, self.s_enc, self.h_dec, self.s_dec = (
            nn.Parameter(torch.zeros(config.units, *grid)) for _ in range(4)
        )

    @torch.no_grad()
    def init_from_mean(self, mean: Tensor) -> None:
        """Start the canvas at the mean training image (C, H, W) instead of at grey."""
        config = self.config
        self.c.copy_(distributions.first_canvas(config.likelihood, mean, config.components))

    def first(self, images: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """c_0, and output and cell of encoder and decoder, the same for every image: (images, …)."""
        learned = (self.c, self.h_enc, self.s_enc, self.h_dec, self.s_dec)
        c, h_enc, s_enc, h_dec, s_dec = (p.expand(images, *p.shape) for p in learned)
        return c, h_enc, s_enc, h_dec, s_dec

    def pixels(self, c: Tensor) -> Pixels:
        """What a canvas stands for."""
        return distributions.pixels(self.config.likelihood, c, self.config.components)
