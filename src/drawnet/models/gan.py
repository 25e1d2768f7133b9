"""Generative adversarial nets (Goodfellow et al. 2014, arXiv 1406.2661), as for MNIST.

The generator G makes images from noise; the discriminator D distinguishes them from real ones.

    G(z)  = σ(W ReLU(W ReLU(W z + b) + b) + b)          z normal or uniform, of variance 1
    D(x)  = W maxout(maxout(x)) + b                     the logit of "real"; dropout at every layer
    maxout(h)_j = max_i (W_ij h + b_ij)                 the largest of some pieces
    D's loss: w (-log σ(D(x)) - log(1 - σ(D(G(z)))))    G's: -log σ(D(G(z)))

G's loss is the paper's non-saturating one.  As in the authors' code both players are updated at once,
with the same G(z) and dropout masks, and w = ½; or in turn, D first, with images of their own.

    x   images (B, C, H, W), values in [0, 1]    z   noise (B, Z)    B   images
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawnet.errors import schema
from drawnet.errors.schema import Gt, NonNegative, Positive, PositiveInt, Share
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
    prior: Literal["normal", "uniform"] = "normal"
    """Their distribution, of variance 1; in the authors' code normal."""
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
    updates: Literal["at_once", "in_turn"] = "at_once"
    """Of both networks with the same made images, as in the authors' code, or in turn."""
    discriminator_weight: Positive = 0.5
    """w, of the discriminator's loss; the authors' is ½."""
    longest: NonNegative = 0.0
    """Longest weights of a maxout piece; longer ones are used as if they were that long; 0: any."""

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

    A piece whose weights are longer than `longest` is used as if they were that long; 0: none is.
    """

    def __init__(self, inputs: int, outputs: int, pieces: int, longest: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs * pieces, inputs).uniform_(-0.005, 0.005))
        self.bias = nn.Parameter(torch.zeros(outputs * pieces))
        self.pieces, self.longest = pieces, longest

    def forward(self, x: Tensor) -> Tensor:
        h = F.linear(x, self.weight)
        if self.longest:
            h = h * (self.longest / self.weight.norm(dim=1).clamp_min(self.longest))
        h = h + self.bias
        return h.view(len(x), -1, self.pieces).amax(2)


class Discriminator(nn.Module):
    """Images (B, C, H, W) -> logits of "real", (B,)."""

    def __init__(self, config: GANConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        units, pieces, longest = config.discriminator, config.pieces, config.longest
        self.keep = (config.keep_input, config.keep_hidden, config.keep_hidden)
        self.first = Maxout(math.prod(shape), units, pieces, longest)
        self.second = Maxout(units, units, pieces, longest)
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
    """Generator and discriminator, updated at once or in turn, the discriminator first."""

    selection_metric = "parzen"

    def __init__(self, config: GANConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.generator, self.discriminator = Generator(config, shape), Discriminator(config, shape)

    def init_from_mean(self, mean: Tensor) -> None:
        """The generator's last bias is the logit of the mean image, clipped to [1/1000, 999/1000]."""
        with torch.no_grad():
            self.generator.layers[-2].get_parameter("bias").copy_(
                mean.flatten().clamp(1e-3, 1 - 1e-3).logit()
            )

    def make(self, n: int, noise: NoiseSource, purpose: str) -> Tensor:
        """n images of noise, (n, C, H, W)."""
        draw = noise.normal if self.config.prior == "normal" else noise.uniform
        z = draw(purpose, n, self.config.noise)
        if self.config.prior == "uniform":
            z = (2 * z - 1) * math.sqrt(3)
        return self.generator(z)  # type: ignore[no-any-return]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        if self.config.updates == "at_once":
            return {"players": list(self.parameters())}
        players = {"discriminator": self.discriminator, "generator": self.generator}
        return {name: list(player.parameters()) for name, player in players.items()}

    def loss(self, x: Tensor, y: Tensor, noise: NoiseSource, options: LossOptions) -> Terms:
        """The group's loss, nats; for group '': parzen, -log p(x) by a window over samples."""
        with self.autocast():
            if options.group:
                made = self.make(len(x), noise, f"{options.group} noise")
                terms: Terms = getattr(self, f"_{options.group}_loss")(x, made, noise)
                return terms
            source = ImageNoise(0, JUDGED, x.device)
            samples = self.make(len(JUDGED), source, "parzen")
            loss = -distributions.log_density(x, samples, SIGMA)[0].float()
        return Terms(loss, {"parzen": loss})

    def _players_loss(self, x: Tensor, made: Tensor, noise: NoiseSource) -> Terms:
        """One backward pass for both.

        Seen from the made images the logits s are all that the two losses have in common, so there the
        discriminator's gradient is turned into the generator's: by the ratio of
        d/ds -log σ(s) = -σ(-s) to d/ds -w log(1 - σ(s)) = w σ(s), which is -exp(-s) / w.
        """
        weight = self.config.discriminator_weight
        real = self.discriminator(x, noise, "real")
        judged = self.discriminator(made, noise, "made")
        loss = weight * (F.softplus(-real) + F.softplus(judged))
        if made.requires_grad:
            ratio = -torch.exp(-judged.detach().clamp_min(-60)) / weight  # σ(-60): nothing is lost
            made.register_hook(lambda gradient: gradient * ratio.view(-1, 1, 1, 1))
        return Terms(loss, {"discriminator": loss, "generator": F.softplus(-judged).detach()})

    def _generator_loss(self, x: Tensor, made: Tensor, noise: NoiseSource) -> Terms:
        loss = F.softplus(-self.discriminator(made, noise, "fooled"))
        return Terms(loss, {"generator": loss})

    def _discriminator_loss(self, x: Tensor, made: Tensor, noise: NoiseSource) -> Terms:
        real = self.discriminator(x, noise, "real")
        false = self.discriminator(made.detach(), noise, "made")
        loss = self.config.discriminator_weight * (F.softplus(-real) + F.softplus(false))
        return Terms(loss, {"discriminator": loss})

    def frames(self, n: int, noise: NoiseSource) -> Tensor:
        """Grey, then what the generator makes."""
        images = self.make(n, noise, "sample")
        return torch.stack([torch.full_like(images, 0.5), images])


Config, Model = GANConfig, GAN
