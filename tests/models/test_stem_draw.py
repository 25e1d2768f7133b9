"""DRAW between convolutions: its equations once more by PyTorch's own layers, for any image."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from drawnet.data.pipeline import Data, one_hot
from drawnet.errors import UserError
from drawnet.models.sequential import bound, generate
from drawnet.models.stem_draw import StemDraw, StemDrawConfig
from drawnet.nn import distributions
from drawnet.training import loop
from drawnet.training.config import Run
from reference import KINDS, assert_finite_differences, inputs, lstm, twin

SHAPES = [(1, 8, 8), (3, 8, 12), (2, 7, 5), (1, 1, 3)]
SIZES = {"steps": 3, "units": 6, "latents": 4, "features": 5}


def lively(shape=(1, 8, 8), dtype=torch.float64, scale=0.3, **config):
    """Weights far from fresh ones, so that every part has a say."""
    model = StemDraw(StemDrawConfig(**{**SIZES, **config}), shape).to(dtype)
    torch.manual_seed(1)
    for p in model.parameters():
        nn.init.normal_(p, std=scale)
    return model


@torch.no_grad()
def written_out(model, x, eps, y):
    """(distortion (B,), rates (T, B)) by PyTorch's own layers, float64."""
    model, batch = model.double(), len(x)
    x, eps, y, (_, height, width) = x.double(), eps.double(), y.double(), model.shape
    c = model.c.expand(batch, -1, -1, -1)
    h_enc, s_enc, h_dec, s_dec = (
        p.expand(batch, -1) for p in (model.h_enc, model.s_enc, model.h_dec, model.s_dec)
    )
    rates = []
    for noise in eps:
        mean = distributions.pixels(model.config.likelihood, c, model.config.components).mean
        r = torch.cat((x, x - mean), 1)
        for layer in model.read.layers:
            r = F.relu(F.conv2d(r, layer.weight, layer.bias, 2, layer.kernel // 2))
        h_enc, s_enc = lstm(model.encoder, (r.flatten(1), h_dec, y), (h_enc, s_enc))
        q = F.linear(h_enc, model.q.weight, model.q.bias)
        mu, log_sigma = q[:, : len(q[0]) // 2], q[:, len(q[0]) // 2 :]
        rates.append(0.5 * (mu**2 + (2 * log_sigma).exp() - 2 * log_sigma - 1).sum(1))
        h_dec, s_dec = lstm(model.decoder, (mu + log_sigma.exp() * noise, y), (h_dec, s_dec))
        w = F.linear(h_dec, model.write.linear.weight, model.write.linear.bias)
        w = w.view(batch, -1, math.ceil(height / 4), math.ceil(width / 4))
        for layer in model.write.layers:
            w = twin(layer, w.tanh())
        c = c + w[:, :, :height, :width]
    p = distributions.pixels(model.config.likelihood, c, model.config.components)
    return -p.log_prob(x), torch.stack(rates)


@pytest.mark.parametrize("likelihood", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_bound_is_that_of_the_equations(shape, likelihood):
    model = lively(shape, likelihood=likelihood, components=2)
    (x, eps), y = inputs(model), torch.empty(4, 0)
    ours, (distortion, rate) = bound(model, x, eps), written_out(model, x, eps, y)
    torch.testing.assert_close(ours.distortion, distortion, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.rate, rate, rtol=1e-9, atol=1e-9)


def test_float32_agrees_and_hears_labels():
    model = lively(dtype=torch.float32, classes=3)
    (x, eps), y = inputs(model), one_hot(torch.tensor([0, 2, 1, 2]), 3)
    ours = bound(model, x, eps, y)
    distortion, rate = written_out(model, x, eps, y)
    torch.testing.assert_close(ours.distortion.double(), distortion, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.rate.double(), rate, rtol=1e-4, atol=1e-4)


def test_samples_do_not_depend_on_the_encoder():
    model = lively()
    _, eps = inputs(model)
    before = [state.c for state in generate(model, eps)]
    with torch.no_grad():
        for part in (model.read, model.encoder, model.q):
            for p in part.parameters():
                p.normal_()
    after = [state.c for state in generate(model, eps)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not torch.allclose(before[0], before[1])


@pytest.mark.parametrize("likelihood", KINDS)
def test_a_new_model_can_learn_with_all_its_parameters(likelihood):
    torch.manual_seed(0)
    model = StemDraw(StemDrawConfig(**SIZES, likelihood=likelihood), (3, 9, 6))
    x, eps = inputs(model, 6)
    mean = x.mean(0)
    model.init_from_mean(mean)
    error = (model.likelihood(model.start(torch.empty(1, 0))).mean[0] - mean).abs().max()
    assert error < (0.15 if likelihood == "mixture" else 0.02)
    bound(model, x, eps).total.mean().backward()
    for name, p in model.named_parameters():
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 1e-7, name


def test_gradients_are_finite_differences():
    model = lively((2, 5, 6), likelihood="mixture", components=2)
    x, eps = inputs(model, 2)
    assert_finite_differences(model, x, eps)


@pytest.mark.parametrize(
    "wrong",
    [
        {name: 0}
        for name in ("steps", "units", "latents", "features", "num_downsamples", "components")
    ]
    + [{"kernel": 4}, {"kernel": -1}, {"classes": -1}],
)
def test_senseless_sizes_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        StemDrawConfig(**wrong)


def test_it_learns_squares(tiny_data, tmp_path):
    """From 22 nats, those of independent pixels, well below; where a square is takes 3.2."""
    run = Run("tiny", StemDrawConfig(**SIZES | {"units": 24}), Data("blobs"), precision="float32")
    run = replace(run, examples=9_000, batch=60, lr=1e-2, warmup=600, evaluate_every=3_000)
    assert loop.train(run, tiny_data, tmp_path).best < 12
