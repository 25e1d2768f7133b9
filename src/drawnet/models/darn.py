"""Deep autoregressive networks (Gregor et al. 2014, arXiv 1310.8499): binary units in a row.

Every bit of the hidden units h and of the image x may depend on the earlier bits of its own layer.

    q(h_j = 1 | x)          = σ(W x + b)_j                     the encoder; if linked, + Σ_i<j V_ji h_i
    p(h_j = 1 | h_1..j-1)   = σ(b_j + Σ_i<j V_ji h_i)          the prior
    p(x_i = 1 | x_1..i-1,h) = σ((W h + b)_i + Σ_k<i V_ik x_k)  the decoder
    -log p(x) <= E_q[-log p(x | h) + log q(h | x) - log p(h)]    the description length of x

A matrix V is strictly lower triangular: all bits of a layer are judged at once, and drawn one by one.
Without hidden units this is the fully visible sigmoid belief network (Frey 1998), and exact.

How E_q's gradient reaches the encoder's logits a, where q_j = σ(a_j) and h_j is 0 or 1:

    first_order     ∂/∂a_j ≈ f'(h_j) q_j (1 - q_j) / 2q(h_j), f' the cost's derivative as if h_j
                    were real (the paper's): exact in the mean if f is quadratic, else biased
    leave_one_out   Σ_k (f(h_k) - mean_l≠k f(h_l)) ∇ log q(h_k | x) / K over K draws, unbiased
                    (Salimans & Knowles 2014, arXiv 1401.1022; Kool, van Hoof & Welling 2019)
    reweighted      -Σ_k w_k ∇ log q(h_k | x), and -Σ_k w_k ∇ log p(x, h_k) for the rest, where w_k is
                    p(x, h_k) / q(h_k | x) over its sum (reweighted wake-sleep, wake phases alone;
                    Bornschein & Bengio 2015, arXiv 1406.2751): towards the K-sample bound

    x   images (B, C, H, W) of 0 and 1     h   hidden units (B, H), 0 or 1     B   images     K   draws
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from drawnet.errors import UserError, schema
from drawnet.errors.schema import Ge, NonNegative, NonNegativeInt
from drawnet.models.base import ImplicitModel, LikelihoodModel, LossOptions, Terms
from drawnet.nn.distributions import Bernoulli
from drawnet.nn.noise import NoiseSource
from drawnet.nn.weight_noise import Weights, cost, drawn


@dataclass(frozen=True)
class DARNConfig:
    """Sizes and links of the network; the defaults have the paper's 500 hidden units for MNIST."""

    hidden: NonNegativeInt = 500
    """H, stochastic hidden units; 0: none, and the likelihood is exact."""
    tanh: NonNegativeInt = 0
    """Deterministic tanh units between x and h, and between h and x; 0: none."""
    prior_links: bool = True
    """Whether a hidden unit depends on earlier ones in the prior."""
    pixel_links: bool = True
    """Whether a pixel depends on earlier ones."""
    encoder_links: bool = False
    """Whether a hidden unit depends on earlier ones in the encoder, which is then drawn one by one."""
    estimator: Literal["first_order", "leave_one_out", "reweighted"] = "first_order"
    """The encoder's gradient: the paper's, which is biased, or one of several draws, unbiased or
    reweighted."""
    draws: Annotated[int, Ge(2)] = 4
    """K, draws an image for leave_one_out and reweighted."""
    weight_noise: NonNegative = 0.0
    """Weight of the weights' own description length in an image's loss (Graves 2011), 1/N for N
    training images; 0: weights without noise."""

    likelihood: ClassVar[str] = "bernoulli"

    def __post_init__(self) -> None:
        schema.check(self, "--model.")
        if not self.hidden and not self.pixel_links:
            raise UserError("--model.hidden 0 leaves nothing to learn from without pixel links")


class Links(Weights):
    """Connections from earlier bits to later ones: bits (…, n) -> Σ_i<j V_ji bits_i, (…, n)."""

    def __init__(self, n: int, noisy: bool = False) -> None:
        super().__init__(torch.zeros(n, n), noisy)

    def used(self, weight: Tensor) -> Tensor:
        return weight.tril(-1)

    def forward(self, bits: Tensor) -> Tensor:
        return super().forward(bits).to(self.weight)

    @torch.no_grad()
    def draw(self, logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Bits one by one by their noise (B, n), and the logits that each had then."""
        total, bits = logits.clone(), torch.zeros_like(logits)
        for j, row in enumerate(self.weight.T):
            bits[:, j] = uniform[:, j] < total[:, j].sigmoid()
            total[:, j + 1 :] += bits[:, j, None] * row[j + 1 :]
        return bits, total


class FirstOrder(torch.autograd.Function):
    """Bits drawn by their noise, whose gradient is the paper's estimate: f' q (1 - q) / 2q(h)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, uniform: Tensor) -> Tensor:
        q = logits.sigmoid()
        h = (uniform < q).to(logits)
        ctx.save_for_backward(q, h)
        return h

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        q, h = ctx.saved_tensors
        return gradients[0] * torch.where(h > 0, 1 - q, q) / 2, None


class Dense(Weights):
    """W x + b, (…, in) -> (…, out)."""

    def __init__(self, inputs: int, outputs: int, noisy: bool) -> None:
        layer = nn.Linear(inputs, outputs)
        super().__init__(layer.weight.detach(), noisy)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.bias


def through(inputs: int, tanh: int, outputs: int, noisy: bool) -> nn.Sequential:
    """A linear map, or two with so many tanh units between them."""
    if not tanh:
        return nn.Sequential(Dense(inputs, outputs, noisy))
    return nn.Sequential(Dense(inputs, tanh, noisy), nn.Tanh(), Dense(tanh, outputs, noisy))


class DARN(LikelihoodModel, ImplicitModel):
    """One layer of stochastic hidden units, or none, over the pixels."""

    def __init__(self, config: DARNConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape, self.exact = config, shape, not config.hidden
        hidden, pixels, noisy = config.hidden, math.prod(shape), config.weight_noise > 0
        self.bias = nn.Parameter(torch.zeros(pixels))
        self.pixel_links = Links(pixels, noisy) if config.pixel_links else None
        if hidden:
            self.prior = nn.Parameter(torch.zeros(hidden))
            self.encoder = through(pixels, config.tanh, hidden, noisy)
            self.decoder = through(hidden, config.tanh, pixels, noisy)
            self.prior_links = Links(hidden, noisy) if config.prior_links else None
            self.encoder_links = Links(hidden) if config.encoder_links else None

    @torch.no_grad()
    def init_from_mean(self, mean: Tensor) -> None:
        """Start at the mean training image (C, H, W) instead of at grey."""
        self.bias.copy_(torch.logit(mean, eps=0.01).flatten())

    # ---- the three distributions ----------------------------------------------------------------

    def infer(self, x: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """h ~ q(h | x) by its noise (B, H), and the logits of q at that h."""
        a = self.encoder(x.flatten(1)).to(self.bias)
        if self.encoder_links is None:
            return FirstOrder.apply(a, uniform), a
        bits, logits = [], []
        for j, row in enumerate(self.encoder_links.weight.tril(-1).T):
            logits.append(a[:, j])
            bits.append(FirstOrder.apply(a[:, j], uniform[:, j]))
            a = a + bits[-1][:, None] * row
        return torch.stack(bits, 1), torch.stack(logits, 1)

    def log_q(self, x: Tensor, h: Tensor) -> Tensor:
        """log q(h | x), (B,), for a given h (B, H)."""
        a = self.encoder(x.flatten(1)).to(self.bias)
        return Bernoulli(a if self.encoder_links is None else a + self.encoder_links(h)).log_prob(h)

    def log_prior(self, h: Tensor) -> Tensor:
        """log p(h), (B,)."""
        logits = self.prior.expand_as(h)
        return Bernoulli(logits + self.prior_links(h) if self.prior_links else logits).log_prob(h)

    def log_pixels(self, x: Tensor, h: Tensor | None) -> Tensor:
        """log p(x | h), (B,)."""
        bits, logits = x.flatten(1), self.canvas(len(x), h)
        if self.pixel_links:
            logits = logits + self.pixel_links(bits)
        return Bernoulli(logits).log_prob(bits)

    def canvas(self, n: int, h: Tensor | None) -> Tensor:
        """The pixels' logits from h alone, (n, C·H·W)."""
        return self.bias.expand(n, -1) if h is None else self.bias + self.decoder(h)

    # ---- the description length -----------------------------------------------------------------

    def loss(self, x: Tensor, y: Tensor, noise: NoiseSource, options: LossOptions) -> Terms:
        """The description length, its rate weighted, with the chosen gradient.

        In evaluation by one draw.  Without hidden units nats is -log p(x), and the only metric.  In
        training with weight noise, `weights` is the description length of the weights, an image's part.
        """
        if not (self.training and self.config.weight_noise):
            return self._loss(x, noise, options.kl_weight)
        with drawn(self, noise):
            loss, metrics = self._loss(x, noise, options.kl_weight)
        weights = (self.config.weight_noise * cost(self)).expand(len(x))
        return Terms(loss + weights, metrics | {"weights": weights})

    def _loss(self, x: Tensor, noise: NoiseSource, kl_weight: float) -> Terms:
        with self.autocast():
            if self.exact:
                nats = -self.log_pixels(x, None)
                return Terms(nats, {"nats": nats})
            if self.training and self.config.estimator != "first_order":
                distortion, rate, score = self._of_several(x, noise, kl_weight)
            else:
                uniform = noise.uniform("hidden", len(x), self.config.hidden)
                distortion, rate = self._terms(x, uniform)
                score = torch.zeros_like(rate)
        metrics = {"nats": distortion + rate, "rate": rate[None], "distortion": distortion}
        return Terms(distortion + kl_weight * rate + score, metrics)

    def _terms(self, x: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Distortion and rate of one draw, (B,).

        Stop-gradient on the logits of log q: its score has zero mean.
        """
        h, logits = self.infer(x, uniform)
        return -self.log_pixels(x, h), Bernoulli(logits.detach()).log_prob(h) - self.log_prior(h)

    def _of_several(
        self, x: Tensor, noise: NoiseSource, weight: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Means over K draws of distortion and rate, and 0 with the rest of the gradient; (B,) each."""
        k = self.config.draws
        uniform = noise.uniform("hidden", len(x), k, self.config.hidden).flatten(0, 1)
        copies = x.repeat_interleave(k, 0)
        with torch.no_grad():
            h, _ = self.infer(copies, uniform)
        log_q = self.log_q(copies, h).view(-1, k)
        distortion = -self.log_pixels(copies, h).view(-1, k)
        rate = log_q.detach() - self.log_prior(h).view(-1, k)
        cost = distortion + weight * rate
        fixed = cost.detach()
        if self.config.estimator == "leave_one_out":
            others = (fixed.sum(1, keepdim=True) - fixed) / (k - 1)
            score = (log_q * (fixed - others)).mean(1)
        else:
            distortion, rate = distortion.detach(), rate.detach()
            score = ((-fixed).softmax(1) * (cost - log_q)).sum(1)
        return distortion.mean(1), rate.mean(1), score - score.detach()

    def log_weights(self, x: Tensor, y: Tensor, noise: NoiseSource) -> Tensor:
        with self.autocast():
            if self.exact:
                return self.log_pixels(x, None)
            uniform = noise.uniform("importance", len(x), self.config.hidden)
            distortion, rate = self._terms(x, uniform)
            return -distortion - rate

    # ---- sampling -------------------------------------------------------------------------------

    def code(self, n: int, noise: NoiseSource) -> Tensor:
        """h ~ p(h), (n, H)."""
        uniform, logits = noise.uniform("h", n, self.config.hidden), self.prior.expand(n, -1)
        if self.prior_links is None:
            return (uniform < logits.sigmoid()).to(logits)
        return self.prior_links.draw(logits, uniform)[0]

    def frames(self, n: int, noise: NoiseSource) -> Tensor:
        """Grey, then row after row as it is drawn; of every pixel its mean given those before it."""
        pixels = math.prod(self.shape)
        logits = self.canvas(n, None if self.exact else self.code(n, noise))
        if self.pixel_links:
            logits = self.pixel_links.draw(logits, noise.uniform("x", n, pixels))[1]
        rows = logits.sigmoid().view(n, -1, self.shape[2])
        drawn = rows.new_ones(rows.shape[1] + 1, rows.shape[1]).tril(-1)
        return (0.5 + drawn[:, None, :, None] * (rows - 0.5)).view(-1, n, *self.shape)


Config, Model = DARNConfig, DARN
