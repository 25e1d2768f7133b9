"""The ladder: its equations once more by PyTorch's own functions, for any image, and its start."""

import pytest
import torch
import torch.nn.functional as F

import reference
from drawnet.models.sequential import bound
from drawnet.nn import distributions
from reference import images, noise

SIZES = {"steps": 3, "features": 4, "units": 5, "dense": 3, "coarse": 2, "fine": 1}


def conv(layer, *inputs):
    x = torch.cat(inputs, 1)
    return F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.kernel // 2)


def upconv(layer, x, height, width):
    return F.pixel_shuffle(conv(layer, x), 2)[..., :height, :width]


def linear(layer, *inputs):
    return F.linear(torch.cat(inputs, 1), layer.weight, layer.bias)


def gaussian(parts):
    """The means and deviations of some scales, each bounded, one after another."""
    mu, log_sigma = zip(*(part.chunk(2, 1) for part in parts), strict=True)
    raw = torch.cat([part.flatten(1) for part in log_sigma], 1)
    return torch.cat([part.flatten(1) for part in mu], 1), (4 * (raw / 4).tanh()).exp()


def equations(model, x, eps, y):
    """(rate (T, B), distortion (B,)) by the docstring's equations."""
    height, width = x.shape[2:]
    fine, coarse = (-(-height // 2), -(-width // 2)), (-(-height // 4), -(-width // 4))
    c, m, f = (p.expand(len(x), *p.shape) for p in (model.c, model.m, model.f))
    rates = []
    for noise_t in eps:
        x_hat = x - distributions.pixels("bernoulli", c).mean
        r_f = F.silu(conv(model.read_f, x, x_hat))
        r_m = F.silu(conv(model.read_m, r_f))
        r_g = F.silu(linear(model.read_g, r_m.flatten(1)))
        whole = m.mean((2, 3))
        mu_p, sigma_p = gaussian(
            [linear(model.p_g, whole, y), conv(model.p_m, m), conv(model.p_f, f)]
        )
        d, s = gaussian(
            [linear(model.q_g, r_g, whole, y), conv(model.q_m, r_m, m), conv(model.q_f, r_f, f)]
        )
        q = torch.distributions.Normal(mu_p + sigma_p * d, sigma_p * s)
        p = torch.distributions.Normal(mu_p, sigma_p)
        rates.append(torch.distributions.kl_divergence(q, p).sum(1))
        z = q.mean + q.stddev * noise_t
        z_g, z_m, z_f = (
            z[:, :3],
            z[:, 3 : 3 + 2 * coarse[0] * coarse[1]],
            z[:, -fine[0] * fine[1] :],
        )
        z_m, z_f = z_m.reshape(-1, 2, *coarse), z_f.reshape(-1, 1, *fine)
        a, b = linear(model.modulate, z_g, y)[:, :, None, None].chunk(2, 1)
        m = (m + conv(model.add_m, F.silu((1 + a) * conv(model.hidden_m, m, z_m) + b))).tanh()
        above = upconv(model.up, m, *fine)
        f = (f + conv(model.add_f, F.silu(conv(model.hidden_f, f, z_f, above)))).tanh()
        c = c + upconv(model.write, f, height, width)
    distortion = F.binary_cross_entropy_with_logits(c, x, reduction="none").flatten(1).sum(1)
    return torch.stack(rates), distortion


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 12), (2, 7, 5), (1, 1, 3)])
def test_the_bound_is_that_of_the_equations(shape, classes):
    model = reference.lively("ladder_draw", shape, classes=classes, **SIZES)
    x, eps = images(model, 4).round(), noise(model, 4)
    y = torch.eye(3, dtype=torch.float64)[torch.tensor([0, 2, 1, 1])][:, :classes]
    found, (rate, distortion) = bound(model, x, eps, y), equations(model, x, eps, y)
    torch.testing.assert_close(found.rate, rate)
    torch.testing.assert_close(found.distortion, distortion)


def test_a_fresh_prior_is_the_standard_one():
    model = reference.fresh("ladder_draw", (1, 12, 8), **SIZES)
    p = model.prior(model.start(torch.zeros(2, 0)))
    assert p.mu.shape == (2, *model.latents) == (2, 3 + 2 * 3 * 2 + 6 * 4)
    assert not p.mu.any() and not p.log_sigma.any()


def test_every_latent_reaches_the_canvas():
    model = reference.lively("ladder_draw", (1, 8, 8), **SIZES)
    state = model.start(torch.zeros(1, 0, dtype=torch.float64))

    def canvas(z):
        return model.advance(z[None], state).c

    seen = torch.autograd.functional.jacobian(canvas, torch.zeros(model.latents).double())
    assert (seen.flatten(0, -2).abs().amax(0) > 0).all()
