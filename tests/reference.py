"""Layers and inputs written once more with PyTorch's own: what the tests of several models share."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from drawnet.models.sequential import bound


def twin(layer, h):
    """What an `UpConv` computes, by PyTorch's transposed convolution."""
    s, k = layer.up, layer.kernel
    outputs, inputs = len(layer.bias) // s**2, layer.weight.shape[1]
    # (out·s², in, k, k) by output channel and pixel -> (in, out, ks, ks), upside down.
    parts = layer.weight.view(outputs, s, s, inputs, k, k).flip(4, 5).permute(3, 0, 4, 1, 5, 2)
    kernel = parts.reshape(inputs, outputs, k * s, k * s)
    out = F.conv_transpose2d(h, kernel, stride=s, padding=k // 2 * s)
    tile = layer.bias.view(outputs, s, s).repeat(1, h.shape[2], h.shape[3])
    return out + tile


KINDS = ["bernoulli", "logistic", "mixture", "cross_entropy"]


def inputs(model, batch=4):
    torch.manual_seed(2)
    x = torch.rand(batch, *model.shape)
    x = (x < 0.4).double() if model.config.likelihood == "bernoulli" else (x * 255).round() / 255
    eps = torch.randn(model.steps, batch, *model.latents)
    return x.to(model.c.dtype), eps.to(model.c.dtype)


def lstm(layer, inputs, state):
    """PyTorch's cell with the weights of ours."""
    units = len(layer.bias) // 4
    book = nn.LSTMCell(layer.weight.shape[1] - units, units).double()
    w = layer.weight.detach().double().split((layer.weight.shape[1] - units, units), 1)
    values = (*w, layer.bias.detach(), torch.zeros(4 * units))
    book.load_state_dict(dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), values)))  # noqa: B905
    return book(torch.cat(inputs, 1), state)


def assert_finite_differences(model, x, eps):
    """The bound's gradient along a random direction of every parameter, by central differences."""
    bound(model, x, eps).total.sum().backward()
    torch.manual_seed(5)
    for name, p in model.named_parameters():
        direction, ends, h = torch.randn_like(p), [], 1e-6
        for sign in (1, -2, 1):
            with torch.no_grad():
                p.add_(direction, alpha=sign * h)
                ends.append(bound(model, x, eps).total.sum().item())
        expected = (ends[0] - ends[1]) / (2 * h)
        ours = (p.grad * direction).sum().item()
        assert ours == pytest.approx(expected, rel=1e-5, abs=1e-5), name
