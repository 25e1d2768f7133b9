"""Convolutional DRAW: its layers, and a prior that starts at N(0, I) and is learned."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import reference
from drawnet.data.pipeline import one_hot
from drawnet.models.sequential import bound, generate
from drawnet.nn.convolution import Conv, ConvEncoder, ConvLSTM
from drawnet.nn.recurrent import Operands
from reference import images, noise, twin

SIZES = {"steps": 3, "units": 6, "latents": 2, "features": 4}
SHAPES = [(1, 8, 8), (3, 8, 12), (2, 7, 5), (1, 1, 3)]


def lively(**config):
    return reference.lively("conv_draw", (1, 8, 8), **SIZES, **config)


# ---- layers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_convolution_is_pytorchs_of_its_inputs_side_by_side(kernel, stride):
    layer = Conv(5, 4, kernel, stride).double()
    nn.init.normal_(layer.bias)
    a, b = (torch.randn(2, k, 7, 6, dtype=torch.float64) for k in (3, 2))
    expected = F.conv2d(torch.cat((a, b), 1), layer.weight, layer.bias, stride, kernel // 2)
    assert torch.allclose(layer(a, b), expected, rtol=1e-12)
    assert expected.shape[2:] == (math.ceil(7 / stride), math.ceil(6 / stride))
    with Operands(layer, None):
        assert torch.allclose(layer(a, b), expected, rtol=1e-12)


def test_inside_bfloat16_only_the_operands_are_rounded():
    layer = Conv(3, 4, 3)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 6, 6, requires_grad=True)
    leaves = [*layer.parameters(), x]
    exact = layer(x)
    with Operands(layer, torch.bfloat16):
        rounded = layer(x)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.03)
    pairs = (torch.autograd.grad((y**2).sum(), leaves) for y in (rounded, exact))
    for ours, theirs in zip(*pairs, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.02 * theirs.norm()
    assert layer.operand_dtype is None


def test_on_a_grid_of_one_place_the_cell_is_pytorchs():
    ours, theirs = ConvLSTM((3, 4), 5, 1).double(), nn.LSTMCell(7, 5).double()
    with torch.no_grad():
        nn.init.normal_(ours.gates.bias)
        theirs.weight_ih.copy_(ours.gates.weight[:, :7, 0, 0])
        theirs.weight_hh.copy_(ours.gates.weight[:, 7:, 0, 0])
        theirs.bias_ih.copy_(ours.gates.bias)
        theirs.bias_hh.zero_()
    a, b, h, c = (torch.randn(2, k, dtype=torch.float64) for k in (3, 4, 5, 5))
    grid = [t[:, :, None, None] for t in (a, b, h, c)]
    mine = ours((grid[0], grid[1]), grid[2], grid[3])
    for got, want in zip(mine, theirs(torch.cat((a, b), 1), (h, c)), strict=True):
        assert torch.allclose(got[:, :, 0, 0], want, rtol=1e-12)


def test_an_interior_shift_of_the_image_shifts_what_is_squeezed_out_of_it():
    layer, x = ConvEncoder(2, 3, 3, 2).double(), torch.zeros(1, 2, 32, 32, dtype=torch.float64)
    x[:, :, 12:16, 12:16] = torch.randn(2, 4, 4)
    y, moved = layer(x), layer(x.roll((4, 8), (2, 3)))
    assert y.shape == (1, 3, 8, 8)
    torch.testing.assert_close(moved, y.roll((1, 2), (2, 3)))


# ---- a fresh model ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_downsamples", [1, 2, 3])
def test_the_grid_is_coarser_by_its_downsamples(shape, num_downsamples):
    sizes = SIZES | {"num_downsamples": num_downsamples}
    model, n = reference.fresh("conv_draw", shape, **sizes), 2**num_downsamples
    assert model.latents == (2, math.ceil(shape[1] / n), math.ceil(shape[2] / n))


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_fresh_prior_is_standard_at_every_step_and_for_every_label(shape, classes):
    model = reference.fresh("conv_draw", shape, classes=classes, **SIZES)
    y = one_hot(torch.tensor([0, 1, 2, 0]), classes)
    for state in [model.start(y), *generate(model, noise(model), y)]:
        for part in model.prior(state):
            assert torch.equal(part, torch.zeros(4, *model.latents))


def test_the_fresh_posterior_is_near_the_prior():
    model = reference.fresh("conv_draw", (1, 28, 28))
    rate = bound(model, images(model, 8), noise(model, 8)).rate.mean(1)
    assert rate.sum() < 0.02 * math.prod(model.latents) * model.steps
    assert (rate > 0).all()


def test_labels_have_left_the_first_weights_as_they_were():
    """Recorded before there were labels: a run's seed goes on meaning the same weights."""
    state = reference.fresh("conv_draw", (1, 28, 28)).state_dict()
    recorded = {
        "read.layers.0": -0.09461892, "encoder.gates": -0.00272295, "q": -0.02834691, "p": 0.0,
        "reread.layers.1": -0.00087613, "decoder.gates": 0.01700874, "write": -0.01077076,
    }  # fmt: skip
    for name, value in recorded.items():
        last = state[f"{name}.weight"].flatten()[-1].item()
        assert last == pytest.approx(value, abs=1e-7), name


def test_the_prior_depends_on_the_label():
    model = lively(classes=3)
    p = model.prior(model.start(one_hot(torch.tensor([0, 0, 2]), 3)))
    for part in p:
        torch.testing.assert_close(part[0], part[1], rtol=1e-12, atol=1e-12)
        assert (part[0] - part[2]).abs().min() > 1e-6


def test_every_place_of_the_grid_writes_through_one_kernel():
    model, h = lively(), torch.randn(3, 6, 2, 3, dtype=torch.float64)
    assert model.write.up == 4
    assert torch.allclose(model.write(h), twin(model.write, h), rtol=1e-10)


def test_the_posterior_is_a_residual_to_the_prior():
    """In the prior's own units: the rate is that of N(d, s²) against N(0, I), whatever the prior."""
    model = lively()
    _, state = model.infer(images(model), model.start(torch.zeros(4, 0)))
    state = model.advance(noise(model)[0], state)
    q, after = model.infer(images(model), state)
    p = model.prior(after)
    d, log_s = model.q(after.h_enc).chunk(2, 1)
    standard = 0.5 * (d**2 + (2 * log_s).exp() - 1) - log_s
    assert torch.allclose(q.kl(p), standard.flatten(1).sum(1), rtol=1e-10)
    assert p.mu.abs().mean() > 0.05
