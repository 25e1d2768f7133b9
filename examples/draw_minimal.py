"""DRAW on one page: a recurrent neural network for image generation (Gregor et al. 2015).

    python examples/draw_minimal.py        # a few minutes on one core; then open out/minimal.png

Numbers in brackets are the paper's equations (arXiv 1502.04623), and the letters are the paper's:

    x   images (B, C, H, W), 0 or 1             x_hat  error images: x minus the canvas's pixels
    c   canvas: logits of the pixels            r      glimpse that the encoder reads
    z   latents (B, Z) of one step              h, s   outputs and cells of the two LSTMs
    w   patch that the decoder writes           B T N  images, steps, side of a window
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

DIGITS = Path(__file__).parents[1] / "src" / "drawnet" / "data" / "digits.npz"
BATCH, LEARNING_RATE, WARMUP_STEPS, KL_WARMUP_STEPS, CLIP = 64, 3e-3, 100, 300, 10.0


def filterbank(mu: Tensor, sigma2: Tensor, size: int) -> Tensor:
    """Rows of weights F[i, a] ∝ exp(-(a - mu_i)² / 2σ²) that sum to one: (B, 1, N, size)."""
    a = torch.arange(1, size + 1, dtype=mu.dtype, device=mu.device)
    return torch.softmax(-((a - mu[:, None, :, None]) ** 2) / (2 * sigma2), -1)  # (25), (26)


def decode(window: Tensor, N: int, H: int, W: int) -> tuple[Tensor, Tensor, Tensor]:
    """The five numbers of a window (B, 5) as its filterbanks F_Y and F_X and its intensity γ."""
    g_X, g_Y, log_sigma2, log_delta, log_gamma = window[..., None].unbind(1)  # (21)
    g_X, g_Y = (W + 1) / 2 * (g_X + 1), (H + 1) / 2 * (g_Y + 1)  # (22), (23)
    delta = (max(H, W) - 1) / (N - 1) * log_delta.exp()  # (24)
    offset = torch.arange(1, N + 1, dtype=delta.dtype, device=delta.device) - N / 2 - 0.5
    mu_X, mu_Y = g_X + offset * delta, g_Y + offset * delta  # (19), (20)
    sigma2, gamma = (log.exp()[..., None, None] for log in (log_sigma2, log_gamma))
    return filterbank(mu_Y, sigma2, H), filterbank(mu_X, sigma2, W), gamma


class DRAW(nn.Module):
    """Draws an image in T steps, through windows of N × N filters; N = 0: the whole image."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        T: int = 64,
        N_read: int = 2,
        N_write: int = 5,
        units: int = 256,
        latents: int = 100,
    ) -> None:
        super().__init__()
        self.shape, self.T, self.N_read, self.N_write = shape, T, N_read, N_write
        self.units, self.latents = units, latents
        C, H, W = shape
        self.patch = (C, N_write, N_write) if N_write else shape
        self.encoder = nn.LSTMCell(2 * C * (N_read**2 or H * W) + units, units)
        self.q = nn.Linear(units, 2 * latents)
        self.decoder = nn.LSTMCell(latents, units)
        self.w = nn.Linear(units, math.prod(self.patch))
        self.read_window = nn.Linear(units, 5) if N_read else None
        self.write_window = nn.Linear(units, 5) if N_write else None
        self.c0 = nn.Parameter(torch.zeros(shape))
        self.states0 = nn.Parameter(torch.zeros(4, units))  # h_enc, s_enc, h_dec, s_dec

    def start(self, B: int) -> tuple[Tensor, ...]:
        """The learned c_0, h_enc_0, s_enc_0, h_dec_0, s_dec_0, the same for each of B images."""
        return self.c0.expand(B, -1, -1, -1), *self.states0[:, None].expand(-1, B, -1)

    def read(self, x: Tensor, x_hat: Tensor, h_dec: Tensor) -> Tensor:
        """The glimpse (B, 2·C·N²) of image and error image."""
        images = torch.cat((x, x_hat), 1)
        if self.read_window is None:
            return images.flatten(1)  # (17)
        F_Y, F_X, gamma = decode(self.read_window(h_dec), self.N_read, *self.shape[1:])
        return (gamma * (F_Y @ images @ F_X.mT)).flatten(1)  # (27)

    def write(self, h_dec: Tensor) -> Tensor:
        """What is added to the canvas (B, C, H, W)."""
        w = self.w(h_dec).view(-1, *self.patch)  # (18), (28)
        if self.write_window is None:
            return w
        F_Y, F_X, gamma = decode(self.write_window(h_dec), self.N_write, *self.shape[1:])
        return F_Y.mT @ w @ F_X / gamma  # (29)

    def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Distortion (B,) and rate (T, B) in nats, with noise eps (T, B, Z) of N(0, I)."""
        c, h_enc, s_enc, h_dec, s_dec = self.start(len(x))
        rate = []
        for t in range(self.T):
            x_hat = x - torch.sigmoid(c)  # (3)
            r = self.read(x, x_hat, h_dec)  # (4)
            h_enc, s_enc = self.encoder(torch.cat((r, h_dec), 1), (h_enc, s_enc))  # (5)
            mu, log_sigma = self.q(h_enc).chunk(2, 1)  # (1), (2)
            sigma = log_sigma.exp()
            z = mu + sigma * eps[t]  # (6)
            h_dec, s_dec = self.decoder(z, (h_dec, s_dec))  # (7)
            c = c + self.write(h_dec)  # (8)
            rate.append(0.5 * (mu**2 + sigma**2 - 2 * log_sigma - 1).sum(1))  # (10), (11)
        distortion = F.binary_cross_entropy_with_logits(c, x, reduction="none")  # (9)
        return distortion.sum((1, 2, 3)), torch.stack(rate)

    @torch.no_grad()
    def sample(self, eps: Tensor) -> Tensor:
        """Images (B, C, H, W), the pixels' means, from latents eps (T, B, Z) of the prior N(0, I)."""
        c, _, _, h_dec, s_dec = self.start(eps.shape[1])
        for z in eps:  # (13)
            h_dec, s_dec = self.decoder(z, (h_dec, s_dec))  # (14)
            c = c + self.write(h_dec)  # (15)
        return torch.sigmoid(c)  # (16)

    @torch.no_grad()
    def initialise(self, mean: Tensor) -> None:
        """Start from the mean image (C, H, W), and with windows that already do something.

        The paper names no initial values; with ordinary ones attention hardly learns.  Here the
        decoder moves its window about from the first step, and the encoder reads where the decoder
        writes: see what is missing here, put it here.
        """
        self.c0.copy_(mean.logit(0.01))
        read, write, units = self.read_window, self.write_window, self.units
        if read is None or write is None:
            return
        self.states0[2:].normal_()  # the decoder starts in motion,
        self.decoder.weight_hh.normal_(std=(2 / units) ** 0.5)  # keeps moving by itself,
        self.decoder.weight_ih.mul_(0.2)  # undisturbed by latents that mean nothing yet,
        write.weight[:2].normal_(std=1.5 * units**-0.5)  # and its window moves far
        read.weight.copy_(write.weight)
        for window, N, log_gamma in (read, self.N_read, 1.0), (write, self.N_write, -2.0):
            stride = 0.75 / N  # of the image's side: both windows cover three quarters of it
            log_sigma2 = 2 * math.log(0.45 * stride * max(self.shape[1:]))
            log_delta = math.log(stride * (N - 1))
            window.bias.copy_(torch.tensor([0, 0, log_sigma2, log_delta, log_gamma]))
        glimpse = self.encoder.weight_ih[:, :-units]
        glimpse.normal_(std=(3 * glimpse.shape[1]) ** -0.5)  # few inputs, but they count


def load(path: Path) -> tuple[Tensor, Tensor]:
    """Intensities (n, C, H, W) in [0, 1] to learn from, and every tenth image, which is held out."""
    pixels = torch.from_numpy(np.load(path)["pixels"]).float() / 255
    pixels = pixels.view(len(pixels), -1, *pixels.shape[-2:])
    held_out = torch.arange(len(pixels)) % 10 == 9
    return pixels[~held_out], pixels[held_out]


def bound(model: DRAW, images: Tensor) -> tuple[Tensor, Tensor]:
    """Distortion (B,) and rate (B,) of images that are binarised anew, with new noise."""
    distortion, rate = model(images.bernoulli(), torch.randn(model.T, len(images), model.latents))
    return distortion, rate.sum(0)


def train(model: DRAW, images: Tensor, steps: int) -> None:
    """Minimise (12) with Adam; the rate's weight rises to 1, the step size rises and then falls."""
    optimizer, start, nats = torch.optim.Adam(model.parameters()), time.perf_counter(), []
    for step in range(1, steps + 1):
        distortion, rate = bound(model, images[torch.randint(len(images), (BATCH,))])
        optimizer.zero_grad()
        (distortion + min(1.0, step / KL_WARMUP_STEPS) * rate).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / steps)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, step / WARMUP_STEPS) * cosine
        optimizer.step()
        nats.append((distortion + rate).mean().item())
        if step % 50 == 0 or step == steps:
            seconds = time.perf_counter() - start
            print(f"step {step}: {np.mean(nats[-50:]):.1f} nats, {seconds:.0f} seconds", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train DRAW and draw 64 samples.")
    parser.add_argument("--steps", type=int, default=2000, help="training iterations")
    parser.add_argument("--out", type=Path, default=Path("out/minimal.png"), help="grid of samples")
    parser.add_argument("--data", type=Path, default=DIGITS, help=".npz with uint8 'pixels'")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    images, held_out = load(options.data)
    model = DRAW(tuple(images.shape[1:]), T=24, units=128, latents=32)
    model.initialise(images.mean(0))
    try:
        train(model, images, options.steps)
    except KeyboardInterrupt:
        print("stopped: drawing with what is learned so far")
    with torch.no_grad():
        nats = torch.cat([sum(bound(model, part)) for part in held_out.split(100)]).mean().item()
    print(f"held-out images: {nats:.1f} nats (an upper bound on -log p(x))")
    samples = F.interpolate(model.sample(torch.randn(model.T, 64, model.latents)), scale_factor=2)
    tiles = F.pad(samples, (1, 1, 1, 1), value=0.3).unflatten(0, (8, 8))
    grid = (255 * tiles.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)).byte()  # (H, W, C)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid.squeeze(2).numpy()).save(options.out)


if __name__ == "__main__":
    main()
