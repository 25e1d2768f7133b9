"""DRAW with convolutions in its windows: DRAW's equations around them, and windows that start alive."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import oracle
from drawnet.data.pipeline import one_hot
from drawnet.errors import UserError
from drawnet.models.draw import Draw, DrawConfig
from drawnet.models.patch_draw import PatchDraw, PatchDrawConfig
from drawnet.models.sequential import bound, generate
from drawnet.nn import attention, distributions
from reference import KINDS, assert_finite_differences, inputs, lstm, twin

SIZES = {"steps": 3, "units": 6, "latents": 4, "features": 5, "read": 5, "write": 4}


def lively(shape=(1, 6, 7), dtype=torch.float64, **config):
    """Weights far from fresh ones, and windows near the image."""
    model = PatchDraw(PatchDrawConfig(**{**SIZES, **config}), shape).to(dtype)
    torch.manual_seed(1)
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    return model


@torch.no_grad()
def written_out(model, x, eps, y):
    """(distortion (B,), rates (T, B)): the oracle's windows, PyTorch's layers, float64."""
    model, batch, k = model.double(), len(x), model.config
    x, eps, y, (_, height, width) = x.double(), eps.double(), y.double(), model.shape
    c = model.c.expand(batch, -1, -1, -1)
    h_enc, s_enc, h_dec, s_dec = (
        p.expand(batch, -1) for p in (model.h_enc, model.s_enc, model.h_dec, model.s_dec)
    )
    rates = []
    for noise in eps:
        mean = distributions.pixels(k.likelihood, c, k.components).mean
        raw = F.linear(h_dec, model.read_head.weight, model.read_head.bias).numpy()
        both = torch.cat((x, x - mean), 1).numpy()
        pairs = zip(both, raw, strict=True)
        r = torch.stack([torch.from_numpy(oracle.read(i, p, k.read)) for i, p in pairs])
        for layer in model.read.layers:
            r = F.relu(F.conv2d(r, layer.weight, layer.bias, 2, layer.kernel // 2))
        h_enc, s_enc = lstm(model.encoder, (r.flatten(1), h_dec, y), (h_enc, s_enc))
        mu, log_sigma = F.linear(h_enc, model.q.weight, model.q.bias).split(k.latents, 1)
        rates.append(0.5 * (mu**2 + (2 * log_sigma).exp() - 2 * log_sigma - 1).sum(1))
        h_dec, s_dec = lstm(model.decoder, (mu + log_sigma.exp() * noise, y), (h_dec, s_dec))
        w = F.linear(h_dec, model.write.linear.weight, model.write.linear.bias)
        w = w.view(batch, k.features, -(-k.write // 4), -(-k.write // 4))
        for layer in model.write.layers:
            w = twin(layer, w.tanh())
        w = w[:, :, : k.write, : k.write].numpy()
        raw = F.linear(h_dec, model.write_head.weight, model.write_head.bias).numpy()
        pairs = zip(w, raw, strict=True)
        c = c + torch.stack([torch.from_numpy(oracle.write(v, p, height, width)) for v, p in pairs])
    p = distributions.pixels(k.likelihood, c, k.components)
    return -p.log_prob(x), torch.stack(rates)


@pytest.mark.parametrize("likelihood", KINDS)
@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 5, 7)])
def test_the_bound_is_that_of_the_equations(shape, likelihood):
    model = lively(shape, likelihood=likelihood, components=2)
    (x, eps), y = inputs(model), torch.empty(4, 0)
    ours, (distortion, rate) = bound(model, x, eps), written_out(model, x, eps, y)
    torch.testing.assert_close(ours.distortion, distortion, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(ours.rate, rate, rtol=1e-8, atol=1e-8)


def test_float32_agrees_and_hears_labels():
    model = lively(dtype=torch.float32, classes=3)
    (x, eps), y = inputs(model), one_hot(torch.tensor([0, 2, 1, 2]), 3)
    ours = bound(model, x, eps, y)
    distortion, rate = written_out(model, x, eps, y)
    torch.testing.assert_close(ours.distortion.double(), distortion, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.rate.double(), rate, rtol=1e-4, atol=1e-4)


def test_fresh_windows_are_those_of_draw():
    """Both cover the same square of 0.6 of the image, and stand where the other stands."""
    sizes = {"steps": 4, "units": 8, "latents": 3, "read": 6, "write": 12, "likelihood": "logistic"}
    draw = Draw(DrawConfig(**sizes), (1, 28, 20))
    patch = PatchDraw(PatchDrawConfig(**sizes), (1, 28, 20))
    _, write, read = draw.heads.bias.detach().split(draw.parts)
    geometry = []
    for raws in ((read, write), (patch.read_head.bias.detach(), patch.write_head.bias.detach())):
        pairs = zip(raws, (6, 12), strict=True)
        seen, filled = (attention.window(raw[None], n, 28, 20) for raw, n in pairs)
        assert filled.delta.item() * 11 == pytest.approx(0.6 * 27, rel=1e-5)
        assert seen.delta.item() * 6 == pytest.approx(filled.delta.item() * 12, rel=1e-5)
        geometry.append(torch.stack([*seen, *filled]))
    torch.testing.assert_close(*geometry)
    assert torch.equal(patch.read_head.weight[:2], patch.write_head.weight[:2])


def test_fresh_ink_is_the_same_whatever_the_window():
    """A patch of ones leaves about 0.45 in its middle: 1/γ times the filters' density 1/stride²."""
    for n, side in ((5, 28), (12, 28), (12, 32), (6, 16)):
        model = PatchDraw(PatchDrawConfig(**SIZES | {"write": n}), (1, side, side))
        blank, raw = torch.zeros(1, 1, side, side), model.write_head.bias.detach()[None]
        ink = attention.write(blank, torch.ones(1, 1, n, n), raw)
        middle = ink[0, 0, side // 2 - 1 : side // 2 + 1, side // 2 - 1 : side // 2 + 1].mean()
        assert middle.item() == pytest.approx(0.45, abs=0.1), (n, side)


def test_fresh_windows_move_with_the_steps():
    torch.manual_seed(0)
    model = PatchDraw(PatchDrawConfig(), (1, 28, 28))
    _, eps = inputs(model)
    places = torch.stack([model.windows(s)["write"][:, :2] for s in generate(model, eps)])
    assert places.std(0).mean() > 0.05  # of half a side


@pytest.mark.parametrize("likelihood", KINDS)
def test_a_new_model_can_learn_with_all_its_parameters(likelihood):
    torch.manual_seed(0)
    sizes = SIZES | {"likelihood": likelihood, "features": 16}
    model = PatchDraw(PatchDrawConfig(**sizes), (3, 9, 6))
    x, eps = inputs(model, 6)
    model.init_from_mean(x.mean(0))
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
    + [{"read": 1}, {"write": 0}, {"kernel": 4}, {"classes": -1}],
)
def test_senseless_sizes_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        PatchDrawConfig(**wrong)
