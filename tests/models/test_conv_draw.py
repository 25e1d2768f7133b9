"""Convolutional DRAW: any image, a prior that starts at N(0, I), one step contract, and it learns."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from drawnet.data.pipeline import Data, one_hot
from drawnet.errors import UserError
from drawnet.models.conv_draw import ConvDraw, ConvDrawConfig
from drawnet.models.sequential import bound, generate, log_weights, reconstruct
from drawnet.nn.convolution import Conv, ConvEncoder, ConvLSTM
from drawnet.nn.recurrent import Unrolled
from drawnet.training import checkpoint, loop
from drawnet.training.config import Run
from reference import assert_finite_differences

KINDS = ["bernoulli", "logistic", "mixture", "cross_entropy"]
SHAPES = [(1, 8, 8), (3, 8, 12), (2, 7, 5), (1, 1, 3)]


def small(shape=(1, 8, 8), seed=0, **config):
    torch.manual_seed(seed)
    sizes = {"steps": 3, "units": 6, "latents": 2, "features": 4, **config}
    return ConvDraw(ConvDrawConfig(**sizes), shape)


def lively(*args, scale=0.25, dtype=torch.float64, **config):
    """Weights far from fresh ones, so that every part has a say."""
    model = small(*args, **config).to(dtype)
    torch.manual_seed(1)
    for p in model.parameters():
        nn.init.normal_(p, std=scale)
    return model


def images(model, batch, seed=2):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, *model.shape, generator=generator).to(model.c.dtype)
    if model.config.likelihood == "bernoulli":
        return (x < 0.4).to(x.dtype)
    return (x * 255).round() / 255


def noise(model, batch, seed=3):
    generator = torch.Generator().manual_seed(seed)
    size = (model.steps, batch, *model.latents)
    return torch.randn(size, generator=generator).to(model.c.dtype)


def last(states):
    *_, state = states
    return state


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
    with Unrolled(layer):
        assert torch.allclose(layer(a, b), expected, rtol=1e-12)


def test_inside_bfloat16_only_the_operands_are_rounded():
    layer = Conv(3, 4, 3)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 6, 6, requires_grad=True)
    leaves = [*layer.parameters(), x]
    exact = layer(x)
    with Unrolled(layer, torch.bfloat16):
        rounded = layer(x)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.03)
    pairs = (torch.autograd.grad((y**2).sum(), leaves) for y in (rounded, exact))
    for ours, theirs in zip(*pairs, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.02 * theirs.norm()
    assert layer.unroll is None


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


# ---- shapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_images_of_any_size_and_colour(shape, likelihood):
    model = small(shape, likelihood=likelihood, components=2)
    x, eps = images(model, 5), noise(model, 5)
    assert model.latents == (2, math.ceil(shape[1] / 4), math.ceil(shape[2] / 4))
    result = bound(model, x, eps)
    assert result.rate.shape == (3, 5)
    assert result.distortion.shape == (5,)
    assert result.total.isfinite().all()
    trajectories = generate(model, eps), reconstruct(model, x, eps)
    for trajectory in trajectories:
        states = list(trajectory)
        assert len(states) == 3
        p = model.likelihood(states[-1])
        assert p.mean.shape == x.shape
        assert p.sample(torch.rand_like(x)).shape == x.shape
    assert log_weights(model, x, eps).shape == (5,)


@pytest.mark.parametrize("num_downsamples", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_any_stride_and_kernel(num_downsamples, kernel):
    model = small((1, 12, 8), num_downsamples=num_downsamples, kernel=kernel)
    assert bound(model, images(model, 2), noise(model, 2)).total.isfinite().all()
    assert model.latents[1:] == (
        math.ceil(12 / 2**num_downsamples),
        math.ceil(8 / 2**num_downsamples),
    )


def test_the_up_convolution_is_a_transposed_one():
    """Every place of the grid writes through one kernel, kernel · 2ⁿ wide, 2ⁿ pixels apart."""
    model = lively((2, 8, 12))
    h = torch.randn(3, 6, 2, 3, dtype=torch.float64)
    w, b = model.write.weight, model.write.bias
    # (2·16, 6, 3, 3) by output channel and pixel -> (6, 2, 12, 12), upside down as a transpose is.
    kernel = w.view(2, 4, 4, 6, 3, 3).flip(4, 5).permute(3, 0, 4, 1, 5, 2).reshape(6, 2, 12, 12)
    expected = F.conv_transpose2d(h, kernel, stride=4, padding=4)
    expected = expected + b.view(2, 4, 4).repeat(1, 2, 3)
    assert torch.allclose(model.write(h), expected, rtol=1e-10)


@pytest.mark.parametrize(
    "wrong",
    [
        {name: 0}
        for name in ("steps", "units", "latents", "features", "num_downsamples", "components")
    ]
    + [{"kernel": 4}, {"kernel": -1}],
)
def test_senseless_sizes_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        ConvDrawConfig(**wrong)


# ---- a fresh model ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_the_fresh_prior_is_standard_at_every_step(shape):
    model = small(shape)
    for state in [model.start(torch.zeros(4, 0)), *generate(model, noise(model, 4))]:
        p = model.prior(state)
        assert torch.equal(p.mu, torch.zeros(4, *model.latents))
        assert torch.equal(p.log_sigma, torch.zeros(4, *model.latents))


def test_the_fresh_posterior_is_near_the_prior():
    model = ConvDraw(ConvDrawConfig(), (1, 28, 28))
    x, eps = images(model, 8), noise(model, 8)
    rate = bound(model, x, eps).rate.mean(1)
    assert rate.sum() < 0.02 * math.prod(model.latents) * model.steps
    assert (rate > 0).all()


@pytest.mark.parametrize("likelihood", KINDS)
def test_the_canvas_starts_at_the_data_mean(likelihood):
    model = small((3, 8, 8), likelihood=likelihood)
    mean = torch.rand(3, 8, 8) * 0.9 + 0.05
    model.init_from_mean(mean)
    error = (model.likelihood(model.start(torch.zeros(1, 0))).mean[0] - mean).abs().max()
    assert error < (0.15 if likelihood == "mixture" else 1e-5)  # components stand apart


@pytest.mark.parametrize("recompute", [0, 2])
@pytest.mark.parametrize("likelihood", KINDS)
def test_every_parameter_gets_a_gradient(likelihood, recompute):
    sizes = {"components": 2, "scale": 0.1, "dtype": torch.float32}
    model = lively((3, 16, 20), likelihood=likelihood, **sizes)
    for layer in (*model.read.layers, *model.reread.layers):
        nn.init.constant_(layer.bias, 0.5)  # a ReLU that is never on learns nothing
    result = bound(model, images(model, 6), noise(model, 6), recompute=recompute)
    result.total.mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert (p.grad != 0).float().mean() > 0.9, name


@pytest.mark.parametrize("likelihood", KINDS)
def test_a_new_model_can_learn_with_all_its_parameters(likelihood):
    model = small((3, 9, 6), likelihood=likelihood)
    bound(model, images(model, 6), noise(model, 6)).total.mean().backward()
    for name, p in model.named_parameters():
        assert p.grad.abs().max() > 1e-7, name


def test_labels_have_left_the_first_weights_as_they_were():
    """Recorded before there were labels: a run's seed goes on meaning the same weights."""
    torch.manual_seed(0)
    state = ConvDraw(ConvDrawConfig(), (1, 28, 28)).state_dict()
    recorded = {
        "read.layers.0": -0.09461892, "encoder.gates": -0.00272295, "q": -0.02834691, "p": 0.0,
        "reread.layers.1": -0.00087613, "decoder.gates": 0.01700874, "write": -0.01077076,
    }  # fmt: skip
    for name, value in recorded.items():
        last = state[f"{name}.weight"].flatten()[-1].item()
        assert last == pytest.approx(value, abs=1e-7), name


def test_the_fresh_prior_is_standard_for_every_label():
    model = small(classes=3)
    p = model.prior(model.start(one_hot(torch.arange(3), 3)))
    assert torch.equal(p.mu, torch.zeros(3, *model.latents))
    assert torch.equal(p.log_sigma, torch.zeros(3, *model.latents))


def test_the_prior_is_told_the_label():
    model = lively(classes=3)
    p = model.prior(model.start(one_hot(torch.tensor([0, 0, 2]), 3)))
    for part in p:
        torch.testing.assert_close(part[0], part[1], rtol=1e-12, atol=1e-12)
        assert (part[0] - part[2]).abs().min() > 1e-6


# ---- the step contract --------------------------------------------------------------------------


def test_the_posterior_is_a_residual_to_the_prior():
    """In the prior's own units: the rate is that of N(d, s²) against N(0, I), whatever the prior."""
    model = lively()
    _, state = model.infer(images(model, 4), model.start(torch.zeros(4, 0)))
    state = model.advance(noise(model, 4)[0], state)
    q, after = model.infer(images(model, 4), state)
    p = model.prior(after)
    d, log_s = model.q(after.h_enc).chunk(2, 1)
    standard = 0.5 * (d**2 + (2 * log_s).exp() - 1) - log_s
    assert torch.allclose(q.kl(p), standard.flatten(1).sum(1), rtol=1e-10)
    assert p.mu.abs().mean() > 0.05


def test_samples_do_not_depend_on_the_encoder():
    model = lively()
    eps = noise(model, 4)
    before = [state.c for state in generate(model, eps)]
    with torch.no_grad():
        for part in (model.read, model.encoder, model.q):
            for p in part.parameters():
                p.normal_()
        model.h_enc.normal_()
        model.s_enc.normal_()
    after = [state.c for state in generate(model, eps)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not torch.allclose(before[0], before[1])


def test_samples_depend_on_the_learned_prior():
    model = lively()
    eps = noise(model, 4)
    before = last(generate(model, eps)).c
    with torch.no_grad():
        model.p.bias.add_(1)
    assert not torch.allclose(last(generate(model, eps)).c, before)


def test_images_of_a_batch_do_not_meet():
    model = lively((3, 8, 12), likelihood="mixture")
    x, eps = images(model, 4), noise(model, 4)
    whole = bound(model, x, eps)
    for k in range(4):
        alone = bound(model, x[k : k + 1], eps[:, k : k + 1])
        assert alone.total.item() == pytest.approx(whole.total[k].item(), rel=1e-10)
        assert torch.allclose(alone.rate[:, 0], whole.rate[:, k], rtol=1e-8)


@pytest.mark.parametrize("recompute", [1, 2])
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_recomputation_changes_nothing(precision, recompute):
    model = lively(dtype=torch.float32)
    x, eps, outs = images(model, 3), noise(model, 3), []
    for k in (0, recompute):
        result = bound(model, x, eps, precision=precision, recompute=k)
        gradients = torch.autograd.grad(result.total.sum(), list(model.parameters()))
        outs.append([result.distortion, result.rate, *result.state, *gradients])
    for ours, theirs in zip(*outs, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_bound_is_below_the_importance_weighted_bound():
    model = lively((1, 4, 4), latents=1)
    draws, k = 2000, 10
    x = images(model, 1).expand(draws, -1, -1, -1)
    eps = noise(model, draws)
    with torch.no_grad():
        one = -bound(model, x, eps).total
    log_w = log_weights(model, x, eps)
    error = log_w.std().item() / draws**0.5
    assert one.mean().item() == pytest.approx(log_w.mean().item(), abs=4 * error)
    iw = (log_w.view(-1, k).logsumexp(1) - math.log(k)).mean().item()
    assert log_w.mean().item() < iw - 4 * error
    assert iw < (log_w.logsumexp(0) - math.log(draws)).item()
    # p(x) by ancestral sampling, where the encoder has no part, is E[p(x, z)/q(z | x)].
    p = model.likelihood(last(generate(model, noise(model, draws, 9)))).log_prob(x).exp()
    ratio = log_w.exp()
    error = ((p.var() + ratio.var()) / draws).sqrt().item()
    assert ratio.mean().item() == pytest.approx(p.mean().item(), abs=5 * error)


@pytest.mark.parametrize("likelihood", ["bernoulli", "mixture"])
def test_gradients_are_finite_differences(likelihood):
    model = lively((2, 5, 6), likelihood=likelihood, components=2)
    x, eps = images(model, 2), noise(model, 2)
    assert_finite_differences(model, x, eps)


# ---- number types -------------------------------------------------------------------------------


def test_bfloat16_products_move_the_loss_by_less_than_a_percent():
    sizes = {"units": 16, "scale": 0.1, "dtype": torch.float32}
    model = lively((3, 12, 8), likelihood="mixture", **sizes)
    x, eps = images(model, 16), noise(model, 16)
    losses = [bound(model, x, eps, precision=kind) for kind in (None, torch.bfloat16)]
    exact, rounded = (b.total.mean() for b in losses)
    assert rounded.item() == pytest.approx(exact.item(), rel=0.01)
    assert rounded.item() != exact.item()
    assert {t.dtype for t in (*losses[1].state, *losses[1][:2])} == {torch.float32}
    theirs, ours = (
        torch.autograd.grad(loss, list(model.parameters())) for loss in (exact, rounded)
    )
    assert {g.dtype for g in ours} == {torch.float32}
    theirs, ours = (torch.cat([g.flatten() for g in gs]) for gs in (theirs, ours))
    assert (ours - theirs).norm() < 0.02 * theirs.norm()


# ---- files and learning -------------------------------------------------------------------------


def small_run(**config):
    sizes = {"steps": 3, "units": 8, "latents": 2, "features": 6, **config}
    return Run(
        "tiny", ConvDrawConfig(**sizes), Data("blobs"), examples=160, batch=8, warmup=16,
        evaluate_every=48, save_every=24, precision="float32",
    )  # fmt: skip


def test_a_saved_model_is_the_same_model(tmp_path):
    run = small_run(likelihood="mixture", components=3)
    model = ConvDraw(run.model, (3, 8, 8))
    checkpoint.save_model(tmp_path / "model.safetensors", model, run, {})
    loaded = checkpoint.load_model(tmp_path)
    assert loaded.run == run
    x, eps = images(model, 3), noise(model, 3)
    assert torch.equal(bound(model, x, eps).total, bound(loaded.network, x, eps).total)


def test_it_learns_squares(tiny_data, tmp_path):
    """From 22 nats, those of independent pixels, well below; where a square is takes 3.2."""
    run = replace(small_run(), examples=9_000, batch=60, lr=1e-2, evaluate_every=3_000)
    progress = loop.train(run, tiny_data, tmp_path)
    assert progress.skipped == 0
    assert progress.best < 14
