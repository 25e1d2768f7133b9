"""DRAW once more, slowly: float64, one number at a time, from the paper's equations alone.

Nothing of `drawnet` is imported here, and no formula was copied from it: what the package computes
with softmaxes, products and fused kernels stands here as sums over pixels counted from 1.  Only
the layout of the weights (names, the order of an LSTM's gates and inputs) is the package's.
"""

import itertools
import math

import numpy as np


def sigmoid(v):
    return 1 / (1 + math.exp(-v)) if v >= 0 else math.exp(v) / (1 + math.exp(v))


def softplus(v):
    return max(v, 0.0) + math.log1p(math.exp(-abs(v)))


# ---- attention ----------------------------------------------------------------------------------


def window(raw, n, height, width):
    """(21)-(24): centre, stride, variance and intensity of a window."""
    g_x = (width + 1) / 2 * (raw[0] + 1)
    g_y = (height + 1) / 2 * (raw[1] + 1)
    sigma2 = math.exp(raw[2])
    delta = (max(width, height) - 1) / (n - 1) * math.exp(raw[3])
    return g_x, g_y, delta, sigma2, math.exp(raw[4])


def filters(g, delta, sigma2, n, size):
    """(19)-(20), (25)-(26): F[i][a], rows normalised over the pixels 1..size."""
    bank = np.zeros((n, size))
    for i in range(1, n + 1):
        mu = g + (i - n / 2 - 0.5) * delta
        nearest = min(abs(a - mu) for a in range(1, size + 1))
        for a in range(1, size + 1):
            # A common factor cancels in the quotient; this one keeps a far filter from 0/0.
            bank[i - 1, a - 1] = math.exp(-((a - mu) ** 2 - nearest**2) / (2 * sigma2))
        bank[i - 1] /= sum(bank[i - 1])
    return bank


def read(image, raw, n):
    """(27): γ F_Y x F_Xᵀ of an image (C, H, W)."""
    channels, height, width = image.shape
    g_x, g_y, delta, sigma2, gamma = window(raw, n, height, width)
    f_x, f_y = filters(g_x, delta, sigma2, n, width), filters(g_y, delta, sigma2, n, height)
    out = np.zeros((channels, n, n))
    for k, i, j in itertools.product(range(channels), range(n), range(n)):
        for b, a in itertools.product(range(height), range(width)):
            out[k, i, j] += gamma * f_y[i, b] * image[k, b, a] * f_x[j, a]
    return out


def write(patch, raw, height, width):
    """(29): (1/γ) F_Yᵀ w F_X of a patch (C, N, N)."""
    channels, n, _ = patch.shape
    g_x, g_y, delta, sigma2, gamma = window(raw, n, height, width)
    f_x, f_y = filters(g_x, delta, sigma2, n, width), filters(g_y, delta, sigma2, n, height)
    out = np.zeros((channels, height, width))
    for k, b, a in itertools.product(range(channels), range(height), range(width)):
        for i, j in itertools.product(range(n), range(n)):
            out[k, b, a] += f_y[i, b] * patch[k, i, j] * f_x[j, a] / gamma
    return out


# ---- probability --------------------------------------------------------------------------------


def kl(mu, log_sigma, mu_p=None, log_sigma_p=None):
    """KL(N(mu, σ²) ‖ N(mu_p, σ_p²)) of one vector of latents: (11), with its -½ a latent."""
    total = 0.0
    for k in range(len(mu)):
        m, v = mu[k], math.exp(2 * log_sigma[k])
        if mu_p is None:
            total += 0.5 * (m**2 + v - math.log(v) - 1)
        else:
            v_p = math.exp(2 * log_sigma_p[k])
            total += 0.5 * (math.log(v_p / v) + (v + (m - mu_p[k]) ** 2) / v_p - 1)
    return total


def bernoulli_log_prob(x, logits):
    """(9): Σ x log σ(c) + (1 - x) log(1 - σ(c)) over one image, any shape."""
    total = 0.0
    for v, c in zip(np.ravel(x), np.ravel(logits), strict=True):
        total -= v * softplus(-c) + (1 - v) * softplus(c)
    return total


def logistic_probability(level, mu, log_scale):
    """P(x = level/255): the logistic's mass between the half levels; the ends take the tails."""
    scale = math.exp(log_scale)
    above = math.inf if level == 255 else ((level + 0.5) / 255 - mu) / scale
    below = -math.inf if level == 0 else ((level - 0.5) / 255 - mu) / scale
    if below > 0:  # the same by symmetry, without the difference of two numbers next to one
        above, below = -below, -above
    return sigmoid(above) - sigmoid(below)


# ---- the network --------------------------------------------------------------------------------


def linear(weight, bias, x):
    return np.array(
        [sum(row[k] * x[k] for k in range(len(x))) + b for row, b in zip(weight, bias, strict=True)]
    )


def lstm(weight, bias, x, h, s):
    """i, f, g, o = W [x, h] + b;  s' = σ(f) s + σ(i) tanh g;  h' = σ(o) tanh s'."""
    units = len(h)
    gates = linear(weight, bias, np.concatenate((x, h)))
    h_next, s_next = np.zeros(units), np.zeros(units)
    for k in range(units):
        i, f, g, o = (gates[part * units + k] for part in range(4))
        s_next[k] = sigmoid(f) * s[k] + sigmoid(i) * math.tanh(g)
        h_next[k] = sigmoid(o) * math.tanh(s_next[k])
    return h_next, s_next


class Draw:
    """Equations (1)-(12) for one image at a time.

    weights: name -> float64 array, as in the state of a drawnet Draw; read, write: window sides or
    0; likelihood: 'bernoulli' or 'logistic' (twice the channels: means' logits, then log scales).
    """

    def __init__(self, weights, *, read, write, latents, likelihood="bernoulli"):
        self.p, self.n_read, self.n_write = weights, read, write
        self.latents, self.likelihood = latents, likelihood

    def start(self):
        return self.p["c"], *(self.p[name] for name in ("h_enc", "s_enc", "h_dec", "s_dec"))

    def mean(self, c):
        colours = len(c) // 2 if self.likelihood == "logistic" else len(c)
        return np.vectorize(sigmoid)(c[:colours])

    def encode(self, x, c, h_enc, s_enc, h_dec):
        """(1)-(5) -> mu, log sigma, h_enc, s_enc."""
        p, x_hat = self.p, x - self.mean(c)
        if self.n_read:
            raw = linear(p["heads.weight"][-5:], p["heads.bias"][-5:], h_dec)
            glimpses = [read(image, raw, self.n_read) for image in (x, x_hat)]
        else:
            glimpses = [x, x_hat]
        r = np.concatenate([glimpse.ravel() for glimpse in glimpses])
        h_enc, s_enc = lstm(
            p["encoder.weight"], p["encoder.bias"], np.concatenate((r, h_dec)), h_enc, s_enc
        )
        both = linear(p["q.weight"], p["q.bias"], h_enc)
        return both[: self.latents], both[self.latents :], h_enc, s_enc

    def decode(self, z, c, h_dec, s_dec):
        """(7)-(8) -> c, h_dec, s_dec."""
        p = self.p
        h_dec, s_dec = lstm(p["decoder.weight"], p["decoder.bias"], z, h_dec, s_dec)
        out = linear(p["heads.weight"], p["heads.bias"], h_dec)
        if self.n_write:
            size = len(c) * self.n_write**2
            patch = out[:size].reshape(len(c), self.n_write, self.n_write)
            return c + write(patch, out[size : size + 5], *c.shape[1:]), h_dec, s_dec
        return c + out[: c.size].reshape(c.shape), h_dec, s_dec

    def log_likelihood(self, x, c):
        if self.likelihood == "bernoulli":
            return bernoulli_log_prob(x, c)
        mean, total = self.mean(c), 0.0
        log_scale = np.clip(c[len(mean) :] - 2, -7, 2)
        for v, m, s in zip(x.ravel(), mean.ravel(), log_scale.ravel(), strict=True):
            total += math.log(logistic_probability(round(v * 255), m, s))
        return total

    def loss(self, x, eps):
        """x (C, H, W), eps (T, Z) -> distortion, rate of every step.   (9)-(12)"""
        c, h_enc, s_enc, h_dec, s_dec = self.start()
        rates = []
        for noise in eps:
            mu, log_sigma, h_enc, s_enc = self.encode(x, c, h_enc, s_enc, h_dec)
            z = np.array(
                [m + math.exp(s) * e for m, s, e in zip(mu, log_sigma, noise, strict=True)]
            )
            rates.append(kl(mu, log_sigma))
            c, h_dec, s_dec = self.decode(z, c, h_dec, s_dec)
        return -self.log_likelihood(x, c), rates

    def canvas(self, zs):
        """(14)-(15): the last canvas of given latents (T, Z)."""
        c, _, _, h_dec, s_dec = self.start()
        for z in zs:
            c, h_dec, s_dec = self.decode(z, c, h_dec, s_dec)
        return c

    def probabilities(self, images, steps, nodes):
        """p(x) of each image by Gauss-Hermite quadrature over all steps · Z latents."""
        points, weights = np.polynomial.hermite_e.hermegauss(nodes)
        weights = weights / weights.sum()
        total = np.zeros(len(images))
        for at in itertools.product(range(nodes), repeat=steps * self.latents):
            c = self.canvas(points[list(at)].reshape(steps, self.latents))
            mass = math.prod(weights[k] for k in at)
            total += [mass * math.exp(self.log_likelihood(x, c)) for x in images]
        return total
