"""DRAW as a textbook or a port would write it in plain PyTorch: the yardstick and the test oracle.

nn.LSTMCell, nn.Linear and batched products, step by step, gradients by autograd; the equations,
the initialisation-free parts and the order of weights are those of drawnet.models.draw, so that
the weights of one can be put into the other (`from_drawnet`) and results compared.
"""

import torch
import torch.nn.functional as F
from torch import nn


class TextbookDraw(nn.Module):
    """Binary images, each window on (side N) or off (0)."""

    def __init__(self, height=28, width=28, steps=64, units=256, latents=100, read=2, write=5):
        super().__init__()
        self.height, self.width, self.steps = height, width, steps
        self.units, self.latents, self.n_read, self.n_write = units, latents, read, write
        pixels = height * width
        self.encoder = nn.LSTMCell(2 * (read**2 or pixels) + units, units)
        self.decoder = nn.LSTMCell(latents, units)
        self.mu = nn.Linear(units, latents)
        self.log_sigma = nn.Linear(units, latents)
        self.read_window = nn.Linear(units, 5) if read else None
        self.write_window = nn.Linear(units, 5) if write else None
        self.patch = nn.Linear(units, write**2 or pixels)
        self.c0 = nn.Parameter(torch.zeros(1, pixels))
        self.states = nn.ParameterList(nn.Parameter(torch.zeros(1, units)) for _ in range(4))

    def filterbanks(self, raw, n):
        g_x, g_y, log_sigma2, log_delta, log_gamma = raw.chunk(5, 1)
        g_x = (self.width + 1) / 2 * (g_x + 1)
        g_y = (self.height + 1) / 2 * (g_y + 1)
        delta = (max(self.height, self.width) - 1) / (n - 1) * torch.exp(log_delta)
        offset = (torch.arange(1, n + 1).to(raw) - n / 2 - 0.5).view(1, -1) * delta
        mu_x, mu_y = (g_x + offset).unsqueeze(2), (g_y + offset).unsqueeze(2)
        sigma2 = torch.exp(log_sigma2).unsqueeze(2)
        a = torch.arange(1, self.width + 1).to(raw).view(1, 1, -1)
        b = torch.arange(1, self.height + 1).to(raw).view(1, 1, -1)
        f_x = torch.exp(-((a - mu_x) ** 2) / (2 * sigma2))
        f_y = torch.exp(-((b - mu_y) ** 2) / (2 * sigma2))
        f_x = f_x / f_x.sum(2, keepdim=True).clamp(min=1e-30)
        f_y = f_y / f_y.sum(2, keepdim=True).clamp(min=1e-30)
        return f_x, f_y, torch.exp(log_gamma)

    def read(self, x, x_hat, h_dec):
        if not self.n_read:
            return torch.cat((x, x_hat), 1)
        f_x, f_y, gamma = self.filterbanks(self.read_window(h_dec), self.n_read)
        glimpses = [
            torch.bmm(torch.bmm(f_y, image.view(-1, self.height, self.width)), f_x.mT)
            for image in (x, x_hat)
        ]
        return torch.cat([gamma * glimpse.flatten(1) for glimpse in glimpses], 1)

    def write(self, h_dec):
        if not self.n_write:
            return self.patch(h_dec)
        f_x, f_y, gamma = self.filterbanks(self.write_window(h_dec), self.n_write)
        w = self.patch(h_dec).view(-1, self.n_write, self.n_write)
        return torch.bmm(torch.bmm(f_y.mT, w), f_x).flatten(1) / gamma

    def start(self, batch):
        c, h_enc, s_enc, h_dec, s_dec = (p.repeat(batch, 1) for p in (self.c0, *self.states))
        return c, (h_enc, s_enc), (h_dec, s_dec)

    def forward(self, x, eps):
        """x (B, H·W), eps (T, B, Z) -> distortion (B,), rate (T, B)."""
        c, enc, dec = self.start(len(x))
        rates = []
        for t in range(self.steps):
            x_hat = x - torch.sigmoid(c)
            r = self.read(x, x_hat, dec[0])
            enc = self.encoder(torch.cat((r, dec[0]), 1), enc)
            mu, log_sigma = self.mu(enc[0]), self.log_sigma(enc[0])
            sigma = torch.exp(log_sigma)
            z = mu + sigma * eps[t]
            rates.append(0.5 * (mu**2 + sigma**2 - 2 * log_sigma - 1).sum(1))
            dec = self.decoder(z, dec)
            c = c + self.write(dec[0])
        distortion = F.binary_cross_entropy_with_logits(c, x, reduction="none").sum(1)
        return distortion, torch.stack(rates)

    @torch.no_grad()
    def sample(self, eps):
        """eps (T, B, Z) -> pixel means (B, H·W)."""
        c, _, dec = self.start(eps.shape[1])
        for z in eps:
            dec = self.decoder(z, dec)
            c = c + self.write(dec[0])
        return torch.sigmoid(c)


@torch.no_grad()
def from_drawnet(model):
    """The textbook network with the weights of a drawnet.models.draw.Draw."""
    k, (_, height, width) = model.config, model.shape
    book = TextbookDraw(height, width, k.steps, k.units, k.latents, k.read, k.write)
    for theirs, ours in ((book.encoder, model.encoder), (book.decoder, model.decoder)):
        theirs.weight_ih.copy_(ours.weight[:, : -k.units])
        theirs.weight_hh.copy_(ours.weight[:, -k.units :])
        theirs.bias_ih.copy_(ours.bias)
        theirs.bias_hh.zero_()
    patch = k.write**2 or height * width
    window = patch + (5 if k.write else 0)
    parts = [
        (book.mu, model.q, slice(0, k.latents)),
        (book.log_sigma, model.q, slice(k.latents, None)),
        (book.patch, model.heads, slice(0, patch)),
        (book.write_window, model.heads, slice(patch, window)),
        (book.read_window, model.heads, slice(window, None)),
    ]
    for theirs, ours, rows in parts:
        if theirs is not None:
            theirs.weight.copy_(ours.weight[rows])
            theirs.bias.copy_(ours.bias[rows])
    book.c0.copy_(model.c.reshape(1, -1))
    for theirs, ours in zip(
        book.states, (model.h_enc, model.s_enc, model.h_dec, model.s_dec), strict=True
    ):
        theirs.copy_(ours[None])
    return book
