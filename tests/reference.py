"""What the tests of several parts share: inputs, layers by PyTorch's own, runs cut in two."""

import json
import math
import os
import signal
import socket
import time
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from conftest import small
from drawnet import cli, kernels, models
from drawnet.data import SPLITS, Dataset, Images
from drawnet.data.pipeline import View
from drawnet.models.sequential import StepModel, bound
from drawnet.nn import distributions
from drawnet.training import checkpoint, loop

LIKELIHOODS = ["bernoulli", "logistic", "coupled", "mixture", "cross_entropy"]


# ---- commands -----------------------------------------------------------------------------------


def drawnet(capsys, *words):
    """(exit status, stdout, stderr) of a command, with all its warnings."""
    capsys.readouterr()
    status = 0
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        try:
            cli.main([str(word) for word in words])
        except SystemExit as end:
            status = end.code or 0
    out, err = capsys.readouterr()
    return status, out, err


def refused(capsys, *words):
    """The one line that a wrong command gets."""
    status, _, err = drawnet(capsys, *words)
    assert status == 2, err
    line = err.strip().splitlines()
    assert len(line) == 1 and line[0].startswith("drawnet: "), err
    assert err.count("\n") == 1 and "Traceback" not in err
    return line[0]


# ---- models and what they are given -------------------------------------------------------------


def view(pixels, levels=2, labels=None, binarise="no", split="test"):
    """Arrays as evaluation takes them."""
    images = Images(np.asarray(pixels), labels)
    splits = dict.fromkeys(SPLITS, images)
    return View(Dataset("arrays", "of a test", levels, "none", "none", splits), split, binarise)


def fresh(kind, shape, **config):
    """A model as it starts from seed 0."""
    torch.manual_seed(0)
    return models.build(models.config(kind)(**config), shape)


def lively(kind, shape, dtype=torch.float64, std=0.3, seed=1, **config):
    """Weights far from fresh ones, so that every part has a say."""
    model = fresh(kind, shape, **config).to(dtype)
    torch.manual_seed(seed)
    for p in model.parameters():
        nn.init.normal_(p, std=std)
    return model


SHAPE = (1, 8, 8)
STEPPING = [k for k in models.names() if issubclass(models.module(k).Model, StepModel)]
"""Kinds of models that draw in steps."""


def drawing(kind="draw", **settings):
    """A model of few steps with random weights, which draws different things of `SHAPE`."""
    model = models.build(small(kind, **settings), SHAPE)
    torch.manual_seed(0)
    std = 0.1 if kind == "ladder_draw" else 0.3  # wide layers: more would be chaos
    for p in model.parameters():
        nn.init.normal_(p, std=std)
    return model.eval()


def pictures(n):
    """Binary images of `SHAPE`."""
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1)).round()


def installed(model):
    """The model with kernels for all that has one; without kernels the test is skipped."""
    if isinstance(why := kernels.library(), str):
        pytest.skip(why)
    assert set(kernels.install(model).values()) <= {"kernel"}
    return model


def images(model, batch=4, seed=2):
    """Bits or grey levels, as the model's pixels are."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, *model.shape, generator=generator).to(next(model.parameters()))
    binary = model.config.likelihood == "bernoulli"
    return (x < 0.4).to(x) if binary else (x * 255).round() / 255


def noise(model, batch=4, seed=3):
    generator = torch.Generator().manual_seed(seed)
    eps = torch.randn(model.steps, batch, *model.latents, generator=generator)
    return eps.to(next(model.parameters()))


def last(states):
    *_, state = states
    return state


# ---- written out --------------------------------------------------------------------------------


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


def convolved(encoder, x):
    """What a `ConvEncoder` makes of x, flat."""
    for layer in encoder.layers:
        x = F.relu(F.conv2d(x, layer.weight, layer.bias, 2, layer.kernel // 2))
    return x.flatten(1)


def upconvolved(decoder, h, height, width):
    """What a `ConvDecoder` that halves twice makes of h."""
    w = F.linear(h, decoder.linear.weight, decoder.linear.bias)
    w = w.view(len(h), -1, math.ceil(height / 4), math.ceil(width / 4))
    for layer in decoder.layers:
        w = twin(layer, w.tanh())
    return w[:, :, :height, :width]


def lstm(layer, inputs, state):
    """PyTorch's cell with the weights of ours."""
    units = len(layer.bias) // 4
    book = nn.LSTMCell(layer.weight.shape[1] - units, units).double()
    w = layer.weight.detach().double().split((layer.weight.shape[1] - units, units), 1)
    values = (*w, layer.bias.detach(), torch.zeros(4 * units))
    book.load_state_dict(dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), values)))  # noqa: B905
    return book(torch.cat(inputs, 1), state)


@torch.no_grad()
def assert_equations(model, glimpse, patch):
    """The bound is DRAW's by PyTorch's own layers, float64.

    glimpse: model, x and x_hat (B, 2C, H, W), h_dec -> what the encoder sees
    patch    model, h_dec -> what is added to the canvas
    """
    x, eps, k = images(model), noise(model), model.config
    y = torch.eye(3, dtype=x.dtype)[[0, 2, 1, 2], : k.classes]
    first = (model.c, model.h_enc, model.s_enc, model.h_dec, model.s_dec)
    c, h_enc, s_enc, h_dec, s_dec = (p.expand(len(x), *p.shape) for p in first)
    rates = []
    for e in eps:
        mean = distributions.pixels(k.likelihood, c, k.components).mean
        r = glimpse(model, torch.cat((x, x - mean), 1), h_dec)
        h_enc, s_enc = lstm(model.encoder, (r, h_dec, y), (h_enc, s_enc))
        mu, log_sigma = F.linear(h_enc, model.q.weight, model.q.bias).split(k.latents, 1)
        rates.append(0.5 * (mu**2 + (2 * log_sigma).exp() - 2 * log_sigma - 1).sum(1))
        h_dec, s_dec = lstm(model.decoder, (mu + log_sigma.exp() * e, y), (h_dec, s_dec))
        c = c + patch(model, h_dec)
    ours, p = bound(model, x, eps, y), distributions.pixels(k.likelihood, c, k.components)
    torch.testing.assert_close(ours.distortion, -p.log_prob(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.rate, torch.stack(rates), rtol=1e-9, atol=1e-9)


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


# ---- runs ---------------------------------------------------------------------------------------


def tensors(folder, name="training"):
    return checkpoint.load_tensors(folder / f"{name}.safetensors")


def position(folder):
    """Examples seen at the last checkpoint."""
    path = folder / "training.safetensors"
    return tensors(folder)[1]["progress"]["examples_seen"] if path.exists() else 0


def free_port():
    """A port on which nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(condition):
    """Wait for what another process does."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_same_runs(a, b, *, metrics=True):
    """Bit for bit in all that they hold, but for the time that they took.

    metrics: also in metrics.jsonl, which has a line more where a run ended that was then extended.
    """
    for name in ("training", "model"):
        (x, hx), (y, hy) = tensors(a, name), tensors(b, name)
        assert x.keys() == y.keys()
        for key in x:
            assert torch.equal(x[key], y[key]), key
        for header in (hx, hy):
            for values in (header, header.get("progress", {})):
                values.pop("seconds", None), values.pop("cpu_seconds", None)
        assert hx == hy
    assert not metrics or lines(a) == lines(b)


def lines(folder):
    """The lines of metrics.jsonl, but for the clock."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in rows]


def stop_after(monkeypatch, steps, how):
    """Do `how()` during the given training step."""
    real, count = loop.train_step, iter(range(1, 10**9))

    def counted(*arguments):
        result = real(*arguments)
        if next(count) == steps:
            how()
        return result

    monkeypatch.setattr(loop, "train_step", counted)


def assert_resumes(run, data, folder, steps, number=signal.SIGTERM):
    """A run that a signal stops after so many steps, and that is resumed, is the whole run."""
    loop.train(run, data, folder / "whole")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, steps, lambda: os.kill(os.getpid(), number))
        assert loop.train(run, data, folder / "parts").examples_seen == steps * run.batch
    assert loop.train(run, data, folder / "parts", resume=True).examples_seen == run.examples
    assert_same_runs(folder / "whole", folder / "parts")
