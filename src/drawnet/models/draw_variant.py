"""DRAW with parts left out, exchanged or got wrong: what the ablation study trains.

Each switch of the configuration changes one thing; with all of them as they are by default this is
`draw.py` to the bit.  Numbers in brackets are the paper's equations, letters those of `draw.py`.
The bound that is measured is always the true one: a mistake in it is made in the objective that
training minimises, which is reported as the metric `claimed` besides the true ones.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from drawnet.errors import UserError
from drawnet.models.base import LossOptions, Terms
from drawnet.models.canvas import State
from drawnet.models.draw import Draw, DrawConfig
from drawnet.models.sequential import bound, drop_empty
from drawnet.nn import attention
from drawnet.nn.attention import LIMIT
from drawnet.nn.noise import NoiseSource
from drawnet.nn.recurrent import GRU, LSTM, RNN

CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


@dataclass(frozen=True)
class DrawVariantConfig(DrawConfig):
    """DRAW's sizes, and the switches."""

    error_image: bool = True
    """Whether the encoder is shown x̂, what the canvas lacks (3)."""
    feedback: bool = True
    """Whether the encoder is shown h_dec_t-1 (5)."""
    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    """What the encoder and the decoder are made of."""
    learned_states: bool = True
    """Whether the initial states of both cells are learned; else they are zero."""
    canvas: Literal["mean", "grey", "fixed"] = "mean"
    """c_0 is learned from the mean image on, or from grey on, or is grey for good."""
    first_windows: bool = True
    """Whether the windows start as `initialise_windows` has them; else as any linear map."""
    shared_window: bool = False
    """Whether one set of five numbers serves to write and then to read (21)."""
    intensity: bool = True
    """Whether windows have a γ (27), (29)."""
    window: Literal["paper", "sigma", "from_zero", "unbounded"] = "paper"
    """Mistakes: exp(raw) is σ, not σ² (21); 0-based pixels and filters in 1-based formulas (19)-(26);
    log γ without a limit."""
    kl: Literal["paper", "no_constant", "mean_latents", "mean_steps"] = "paper"
    """Mistakes: the -½ of every latent and step left out (11); the mean taken over the latents, or over
    the steps, where the bound has a sum (10)."""
    one_noise: bool = False
    """A mistake: all steps of an image draw their latents with the same noise (6)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        windows = self.shared_window or not self.intensity or self.window != "paper"
        if windows and not (self.read or self.write):
            raise UserError("without --model.read or --model.write there is no window to change")
        if self.shared_window and not (self.read and self.write):
            raise UserError("--model.shared-window needs two windows: --model.read, --model.write")


class DrawVariant(Draw):
    """DRAW, but for the switches."""

    config: DrawVariantConfig

    @torch.no_grad()
    def initialise(self) -> None:
        """Exchange and remove the parts concerned; start as DRAW does."""
        k = self.config
        cell, units = CELLS[k.cell], k.units
        if not (k.error_image and k.feedback and k.cell == "lstm"):
            channels, height, width = self.shape
            glimpse = (1 + k.error_image) * channels * (k.read**2 or height * width)
            inputs = drop_empty(glimpse, units * k.feedback, units * bool(k.features), k.classes)
            self.add_module("encoder", cell(inputs, units))
        if k.cell != "lstm":
            self.add_module("decoder", cell(drop_empty(k.latents, k.classes), units))
        if k.first_windows:
            super().initialise()
        else:
            self.q.weight.mul_(0.3)
        if k.window == "sigma":  # the same σ at first
            for bias in self.heads.bias.split(self.parts)[1:]:
                bias[2:3] /= 2
        if k.shared_window:
            self.parts = (*self.parts[:2], 0)
            for name in ("weight", "bias"):
                rows = getattr(self.heads, name)[: sum(self.parts)]
                setattr(self.heads, name, nn.Parameter(rows.clone()))
        if not k.learned_states:
            self.fix("h_enc", "s_enc", "h_dec", "s_dec")
        elif k.cell != "lstm":
            self.fix("s_enc", "s_dec")
        if k.canvas == "fixed":
            self.fix("c")

    def fix(self, *names: str) -> None:
        """Make zeros of what would be learned."""
        for name in names:
            zeros = torch.zeros_like(getattr(self, name).data)
            delattr(self, name)
            self.register_buffer(name, zeros, persistent=False)

    def loss(self, x: Tensor, y: Tensor, noise: NoiseSource, options: LossOptions) -> Terms:
        """The bound as the switches have it, which is also claimed; the other metrics are true.

        With one noise, training's are taken with that noise, to save a second pass.
        """
        k = self.config
        if k.kl == "paper" and not k.one_noise:
            return super().loss(x, y, noise, options)
        eps = self._noise(noise, "latents", x)
        one = eps[:1].expand_as(eps) if k.one_noise else eps
        b = bound(self, x, one, y, recompute=options.recompute)
        rate = wrong_rate(k, b.rate)
        loss, claimed = b.distortion + options.kl_weight * rate, b.distortion + rate
        if k.one_noise and not self.training:
            b = bound(self, x, eps, y, recompute=options.recompute)
        return Terms(loss, self.terms(x, b, options).metrics | {"claimed": claimed})

    def init_from_mean(self, mean: Tensor) -> None:
        if self.config.canvas == "mean":
            super().init_from_mean(mean)

    def encoder_inputs(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        k, images = self.config, [x]
        if k.error_image:
            images.append(self.error_image(x, self.likelihood(state)))
        r = [image.flatten(1) for image in images]
        if k.read:
            r = [self.read(tuple(images), state.next_read).flatten(1)]
            if k.window == "unbounded":
                r[0] = r[0] * beyond(state.next_read)
        heard = [state.h_dec] if k.feedback else []
        return drop_empty(*r, *heard, state.features, state.y)

    def decoder_heads(self, h_dec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        w, window, next_read = super().decoder_heads(h_dec)
        k = self.config
        if k.shared_window:
            next_read = window
        if k.read:
            next_read = self.bent(next_read, k.read)
        if k.write:
            window = self.bent(window, k.write)
            if k.window == "unbounded":
                w = w / beyond(window)[..., None, None]
        return w, window, next_read

    def bent(self, raw: Tensor, n: int) -> Tensor:
        """The parameters (B, 5) of the window that raw ones mean under the switches."""
        if self.config.intensity and self.config.window in ("paper", "unbounded"):
            return raw
        g_x, g_y, sigma2, delta, gamma = raw.unbind(1)
        if not self.config.intensity:
            gamma = torch.zeros_like(gamma)
        if self.config.window == "sigma":
            sigma2 = 2 * sigma2
        if self.config.window == "from_zero":  # filters a stride to the left, the image a pixel
            _, height, width = self.shape
            off = 1 - attention.window(raw, n, height, width).delta
            g_x, g_y = g_x + off * 2 / (width + 1), g_y + off * 2 / (height + 1)
        return torch.stack((g_x, g_y, sigma2, delta, gamma), 1)


def wrong_rate(k: DrawVariantConfig, rate: Tensor) -> Tensor:
    """What a port makes of the rates KL(q_t ‖ p_t), (T, B) -> (B,)."""
    if k.kl == "no_constant":
        return rate.sum(0) + k.steps * k.latents / 2
    return rate.sum(0) / {"mean_latents": k.latents, "mean_steps": k.steps}.get(k.kl, 1)


def beyond(raw: Tensor) -> Tensor:
    """By what factor the γ of windows (B, 5) is beyond its limits, (B, 1)."""
    log_gamma = raw[:, 4:]
    return (log_gamma - log_gamma.clamp(-LIMIT, LIMIT)).exp()


Config, Model = DrawVariantConfig, DrawVariant
