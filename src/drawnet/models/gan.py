"""Generative adversarial nets (Goodfellow et al. 2014, arXiv 1406.2661), as for MNIST.

The generator G makes images from noise; the discriminator D distinguishes them from real ones.

    G(z)  = σ(W ReLU(W ReLU(W z + b) + b) + b)          z uniform, of variance 1
    D(x)  = W maxout(maxout(x)) + b                     the logit of "real"; dropout at every layer
    maxout(h)_j = max_i (W_ij h + b_ij)                 the largest of some pieces
    D's loss: -log σ(D(x)) - log(1 - σ(D(G(z))))        G's: -log σ(D(G(z)))

Both are updated on every batch, D first.  G's loss is the paper's non-saturating one.

    x   images (B, C, H, W), values in [0, 1]    z   noise (B, Z)    B   images
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawnet.errors import schema
from drawnet.errors.schema import Gt, PositiveInt, Share
from drawnet.models.base import ImplicitModel, LossOptions, Terms
from drawnet.nn import distributions
from drawnet.nn.noise import ImageNoise, NoiseSource

JUDGED, SIGMA = range(1000), 0.2
"""Samples and Parzen window of the selection metric."""


@dataclass(frozen=True)
class GANConfig:
    """Sizes of both networks; the defaults are the authors' for MNIST."""

    noise: PositiveInt = 100
    """Z, numbers that an image is made of."""
    generator: PositiveInt = 1200
    """Units in each of the generator's two hidden layers."""
    discriminator: PositiveInt = 240
    """Maxout units in each of the discriminator's two hidden layers."""
    pieces: PositiveInt = 5
    """Linear pieces of a maxout unit."""
    keep_input: Annotated[Share, Gt(0)] = 0.8
    """Share of the pixels that dropout leaves to the discriminator."""
    keep_hidden: Annotated[Share, Gt(0)] = 0.5
    """… and of its hidden units."""

    def __post_init__(self) -> None:
        schema.check(self, "--model.")


class Generator(nn.Module):
    """z (B, Z) -> images (B, C, H, W) in [0, 1]."""

    def __init__(self, config: GANConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape, units = shape, config.generator
        self.layers = nn.Sequential(
            nn.Linear(config.noise, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(),
            nn.Linear(units, math.prod(shape)), nn.Sigmoid(),
        )  # fmt: skip
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.uniform_(layer.weight, -0.05, 0.05)
                nn.init.zeros_(layer.bias)

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.layers(z)
        return images.float().view(-1, *self.shape)


class Maxout(nn.Module):
    """(B, in) -> (B, out), the largest of some linear pieces.   (Goodfellow et al. 2013, 1302.4389)

    A piece whose weights are longer than `longest` is used as if they were that long.
    """

    longest = 1.9365

    def __init__(self, inputs: int, outputs: int, pieces: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs * pieces, inputs).uniform_(-0.005, 0.005))
        self.bias = nn.Parameter(torch.zeros(outputs * pieces))
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        shortened = self.longest / self.weight.norm(dim=1).clamp_min(self.longest)
        h: Tensor = F.linear(x, self.weight) * shortened + self.bias
        return h.view(len(x), -1, self.pieces).amax(2)


class Discriminator(nn.Module):
    """Images (B, C, H, W) -> logits of "real", (B,)."""

    def __init__(self, config: GANConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        units, pieces = config.discriminator, config.pieces
        self.keep = (config.keep_input, config.keep_hidden, config.keep_hidden)
        self.first = Maxout(math.prod(shape), units, pieces)
        self.second = Maxout(units, units, pieces)
        self.out = nn.Linear(units, 1)
        nn.init.uniform_(self.out.weight, -0.005, 0.005)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, noise: NoiseSource, purpose: str) -> Tensor:
        """Dropout draws its masks from the noise; what is kept is scaled up."""
        h = x.flatten(1)
        for k, layer in enumerate((self.first, self.second, self.out)):
            kept = noise.uniform(f"{purpose} {k}", *h.shape) < self.keep[k]
            h = layer(h * kept / self.keep[k])
        return h[:, 0].float()


class GAN(ImplicitModel):
    """Generator and discriminator, updated alternately, the discriminator first."""

    selection_metric = "parzen"

    def __init__(self, config: GANConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.generator, self.discriminator = Generator(config, shape), Discriminator(config, shape)

    def make(self, n: int, noise: NoiseSource, purpose: str) -> Tensor:
        """n images of noise, (n, C, H, W)."""
        z = noise.uniform(purpose, n, self.config.noise)
        return self.generator((2 * z - 1) * math.sqrt(3))  # type: ignore[no-any-return]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        players = {"discriminator": self.discriminator, "generator": self.generator}
        return {name: list(player.parameters()) for name, player in players.items()}

    def loss(self, x: Tensor, y: Tensor, noise: NoiseSource, options: LossOptions) -> Terms:
        """The group's loss, nats; for group '': parzen, -log p(x) by a window over samples."""
        with self.autocast():
            if not options.group:
                source = ImageNoise(0, JUDGED, x.device)
                name, samples = "parzen", self.make(len(JUDGED), source, "parzen")
                loss = -distributions.log_density(x, samples, SIGMA)[0].float()
            else:
                name, made = options.group, self.make(len(x), noise, f"{options.group} noise")
                loss = getattr(self, f"_{name}_loss")(x, made, noise)
        return Terms(loss, {name: loss})

    def _generator_loss(self, x: Tensor, made: Tensor, noise: NoiseSource) -> Tensor:
        return F.softplus(-self.discriminator(made, noise, "fooled"))

    def _discriminator_loss(self, x: Tensor, made: Tensor, noise: NoiseSource) -> Tensor:
        real = self.discriminator(x, noise, "real")
        return F.softplus(-real) + F.softplus(self.discriminator(made.detach(), noise, "made"))

    def frames(self, n: int, noise: NoiseSource) -> Tensor:
        """Grey, then what the generator makes."""
        images = self.make(n, noise, "sample")
        return torch.stack([torch.full_like(images, 0.5), images])


Config, Model = GANConfig, GAN
