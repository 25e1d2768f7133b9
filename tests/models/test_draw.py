"""DRAW against the paper's equations written out (oracle.py) and against a textbook's PyTorch."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import oracle
from drawnet.data.pipeline import one_hot
from drawnet.models.draw import Draw, DrawConfig
from drawnet.models.sequential import bound, generate
from drawnet.nn import attention
from drawnet.nn.distributions import Gaussian
from reference import installed, lively

WINDOWS = {"both": (2, 3), "read only": (3, 0), "write only": (0, 2), "none": (0, 0)}
SHAPES = [(1, 5, 5), (1, 4, 6), (2, 6, 4)]


def build(windows, shape, likelihood="bernoulli", seed=0):
    read, write = WINDOWS[windows]
    sizes = {"steps": 3, "units": 4, "latents": 2, "read": read, "write": write}
    model = lively("draw", shape, std=0.4, seed=seed, likelihood=likelihood, **sizes)
    with torch.no_grad():  # windows near the image: far off it the package clamps, not the paper
        for p in (model.heads.weight, model.heads.bias):
            p[model.parts[0] :] *= 0.5
    x = torch.rand(2, *shape, dtype=torch.float64)
    x = (x * 255).round() / 255 if likelihood == "logistic" else (x < 0.5).double()
    return model, x, torch.randn(3, 2, 2, dtype=torch.float64)


def slow_loss(model, x, eps, weights=None):
    """The oracle's distortion (B,) and rates (T, B)."""
    if weights is None:
        weights = {name: p.detach().numpy() for name, p in model.state_dict().items()}
    k = model.config
    draw = oracle.Draw(
        weights, read=k.read, write=k.write, latents=k.latents, likelihood=k.likelihood
    )
    pairs = [draw.loss(x[b].numpy(), eps[:, b].numpy()) for b in range(len(x))]
    return np.array([d for d, _ in pairs]), np.array([r for _, r in pairs]).T


# ---- equations (1)-(12) -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_loss_is_equations_1_to_12(windows, shape, dtype):
    model, x, eps = build(windows, shape)
    distortion, rate = slow_loss(model, x, eps)
    ours = bound(model.to(dtype), x.to(dtype), eps.to(dtype))
    limit = 1e-10 if dtype == torch.float64 else 1e-4
    assert ours.rate.shape == (3, 2)
    assert ours.distortion.detach().numpy() == pytest.approx(distortion, rel=limit)
    assert ours.rate.detach().numpy() == pytest.approx(rate, rel=limit)


@pytest.mark.parametrize("windows", ["both", "none"])
def test_colour_and_grey_levels_follow_the_same_equations(windows):
    model, x, eps = build(windows, (3, 4, 5), "logistic")
    distortion, rate = slow_loss(model, x, eps)
    ours = bound(model, x, eps)
    assert ours.distortion.detach().numpy() == pytest.approx(distortion, rel=1e-9)
    assert ours.rate.detach().numpy() == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize("shape", [(1, 4, 5), (2, 4, 3)])
@pytest.mark.parametrize("windows", WINDOWS)
def test_gradients_are_finite_differences_of_the_oracle(windows, shape):
    model, x, eps = build(windows, shape)
    bound(model, x, eps).total.sum().backward()
    state = {name: p.detach().numpy() for name, p in model.named_parameters()}
    rng = np.random.default_rng(0)
    groups = {name.split(".")[0] for name in state}
    for group in sorted(groups):
        direction = {
            name: rng.normal(size=p.shape) * (name.split(".")[0] == group)
            for name, p in state.items()
        }
        h, ends = 1e-5, []
        for sign in (1, -1):
            moved = {name: p + sign * h * direction[name] for name, p in state.items()}
            distortion, rate = slow_loss(model, x, eps, moved)
            ends.append(distortion.sum() + rate.sum())
        expected = (ends[0] - ends[1]) / (2 * h)
        ours = sum((p.grad.numpy() * direction[name]).sum() for name, p in model.named_parameters())
        assert ours == pytest.approx(expected, rel=1e-5, abs=1e-6), group


def test_read_and_write_have_windows_of_their_own_from_the_state_before_and_after():
    """r_t looks through h_dec_(t-1), w_t through h_dec_t, each by its own five numbers."""
    model, x, eps = build("both", (1, 4, 6))
    state = model.start(torch.zeros(2, 0))
    q, seen = model.infer(x, state)
    windows = model.windows(seen)
    raw = state.h_dec @ model.heads.weight[-5:].T + model.heads.bias[-5:]
    assert torch.allclose(windows["read"], raw)
    after = model.advance(q.sample(eps[0]), seen)
    raw = after.h_dec @ model.heads.weight[-10:-5].T + model.heads.bias[-10:-5]
    assert torch.allclose(model.windows(after)["write"], raw)
    assert torch.equal(model.windows(after)["read"], windows["read"])
    assert not torch.allclose(model.windows(after)["write"], windows["read"])


def test_windows_are_named_where_there_are_any():
    for name, (read, write) in WINDOWS.items():
        model, x, _ = build(name, (1, 4, 4))
        _, state = model.infer(x, model.start(torch.zeros(2, 0)))
        expected = {"read"} if read else set()
        assert set(model.windows(state)) == expected | ({"write"} if write else set())


def test_the_starting_canvas_and_states_are_learned_and_shared_by_the_images():
    model, _, _ = build("both", (2, 4, 6))
    state = model.start(torch.zeros(3, 0))
    for name in ("c", "h_enc", "s_enc", "h_dec", "s_dec"):
        for b in range(3):
            assert torch.equal(getattr(state, name)[b], getattr(model, name))


# ---- the textbook -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def textbook():
    path = Path(__file__).parents[2] / "benchmarks" / "textbook.py"
    spec = importlib.util.spec_from_file_location("textbook", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def middling(windows, shape=(1, 14, 12), batch=16):
    """A float32 model whose windows lie inside the image, where the textbook is to be trusted."""
    read, write = WINDOWS[windows]
    model = Draw(DrawConfig(steps=6, units=24, latents=7, read=read, write=write), shape)
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=p.shape[-1] ** -0.5)
        for p in (model.c, model.h_enc, model.s_enc, model.h_dec, model.s_dec):
            p.normal_(std=0.3)
        shrink = torch.tensor([0.1, 0.1, 0.3, 0.3, 0.3])[:, None]
        for weight, bias in zip(
            *(p.split(model.parts)[1:] for p in (model.heads.weight, model.heads.bias)), strict=True
        ):
            weight *= shrink[: len(weight)]
            bias.copy_(torch.tensor([0.05, -0.05, 0.2, -0.4, 0.1])[: len(bias)])
    x = (torch.rand(batch, *shape) < 0.3).float()
    return model, x, torch.randn(6, batch, 7)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("windows", WINDOWS)
def test_loss_and_gradients_are_the_textbooks(windows, fused, textbook):
    model, x, eps = middling(windows)
    book = textbook.from_drawnet(model)
    model = installed(model) if fused else model
    ours = bound(model, x, eps)
    for name, raw in model.windows(ours.state).items():
        # Every filter's centre stays within the image: the comparison is a fair one.
        n = model.config.read if name == "read" else model.config.write
        w = attention.window(raw, n, 14, 12)
        for g, size in ((w.g_y, 14), (w.g_x, 12)):
            mu = attention.centres(g, w.delta, n, size)
            assert mu.min() > 0.5
            assert mu.max() < size + 0.5
    distortion, rate = book(x, eps)
    torch.testing.assert_close(ours.distortion, distortion, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.rate, rate, rtol=1e-4, atol=1e-4)
    ours.total.mean().backward()
    (distortion + rate.sum(0)).mean().backward()
    gradients = textbook.convert({name: p.grad for name, p in model.named_parameters()}, book)
    assert set(gradients) == {name for name, _ in book.named_parameters()}
    for name, p in book.named_parameters():
        gradient = gradients[name.replace("bias_hh", "bias_ih")]
        assert (gradient - p.grad).norm() < 1e-4 * p.grad.norm(), name


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("windows", WINDOWS)
def test_bfloat16_products_move_the_loss_by_less_than_a_percent(windows, fused, textbook):
    model, x, eps = middling(windows)
    with torch.no_grad():
        distortion, rate = textbook.from_drawnet(model)(x, eps)
    model = installed(model) if fused else model
    model.precision = torch.bfloat16
    ours = bound(model, x, eps)
    exact = (distortion + rate.sum(0)).mean().item()
    assert ours.total.dtype == torch.float32
    assert ours.total.mean().item() == pytest.approx(exact, rel=0.01)
    assert ours.total.mean().item() != exact


def test_textbook_and_model_sample_the_same_images(textbook):
    model, _, eps = middling("both")
    *_, state = generate(model, eps)
    means = textbook.from_drawnet(model).sample(eps)
    torch.testing.assert_close(model.likelihood(state).mean, means, rtol=1e-4, atol=1e-5)


def test_labels_have_left_the_first_weights_as_they_were():
    """Recorded before there were labels: a run's seed goes on meaning the same weights."""
    torch.manual_seed(0)
    model = Draw(DrawConfig(), (1, 28, 28))
    recorded = {
        "encoder": (-0.37463894, 0.00064031), "q": (0.00203208, 0.00066986),
        "decoder": (-0.02600097, 0.07027297),
    }  # fmt: skip
    for name, (first, last) in recorded.items():
        weight = getattr(model, name).weight.flatten()
        assert (weight[0].item(), weight[-1].item()) == pytest.approx((first, last), abs=1e-7)
    assert model.encoder.weight.shape == (1024, 8 + 256 + 256)


def test_labels_are_columns_of_their_own_in_both_lstms():
    """With those columns at zero it is the model without labels, and y changes nothing."""
    plain = Draw(DrawConfig(steps=3, units=16, latents=5, read=2, write=3), (1, 8, 8))
    conditional = Draw(
        DrawConfig(steps=3, units=16, latents=5, read=2, write=3, classes=4), (1, 8, 8)
    )
    for layer, width in (("encoder", 8 + 16), ("decoder", 5)):
        theirs, ours = getattr(plain, layer).weight.data, getattr(conditional, layer).weight.data
        assert ours.shape[1] == theirs.shape[1] + 4
        assert ours[:, width : width + 4].all()
        ours.copy_(torch.cat((theirs[:, :width], torch.zeros(64, 4), theirs[:, width:]), 1))
    state = {
        k: v for k, v in plain.state_dict().items() if v.shape == conditional.state_dict()[k].shape
    }
    conditional.load_state_dict(state, strict=False)
    x, eps = torch.rand(6, 1, 8, 8).round(), torch.randn(3, 6, 5)
    y = one_hot(torch.tensor([0, 1, 2, 3, 3, 0]), 4)
    torch.testing.assert_close(bound(conditional, x, eps, y).total, bound(plain, x, eps).total)


# ---- convolutions of x ---------------------------------------------------------------------------


def with_features(**sizes):
    """The same weights without convolutions of x and with them, their columns in the encoder at zero."""
    found = []
    for features in (0, 3):
        torch.manual_seed(0)
        config = DrawConfig(
            steps=4, units=16, latents=5, read=2, write=3, features=features, **sizes
        )
        found.append(Draw(config, (1, 9, 8)))
    plain, model = found
    columns = 8 + 16  # the glimpse and h_dec stand before them
    rows = plain.encoder.weight.data
    zeros = torch.zeros(64, 16)
    model.encoder.weight.data = torch.cat((rows[:, :columns], zeros, rows[:, columns:]), 1)
    state = {k: v for k, v in plain.state_dict().items() if k != "encoder.weight"}
    model.load_state_dict(state, strict=False)
    return plain, model


def test_convolutions_of_x_reach_the_encoder_alone():
    plain, model = with_features()
    x, eps = torch.rand(5, 1, 9, 8).round(), torch.randn(4, 5, 5)
    torch.testing.assert_close(bound(model, x, eps).total, bound(plain, x, eps).total)
    nn.init.normal_(model.encoder.weight)
    assert not torch.allclose(bound(model, x, eps).rate, bound(plain, x, eps).rate)
    for ours, theirs in zip(generate(model, eps), generate(plain, eps), strict=True):
        torch.testing.assert_close(ours.c, theirs.c)


def test_the_encoder_has_three_convolutions_of_the_image_as_a_vector():
    _, model = with_features()
    x = torch.rand(5, 1, 9, 8)
    h = x
    for layer in model.convolutions.layers:
        h = F.conv2d(h, layer.weight, layer.bias, 2, 1).relu()
    assert h.shape == (5, 3, 2, 1)
    v = (h.flatten(1) @ model.summary.weight.T + model.summary.bias).tanh()
    state = model.observe(x, model.start(x.new_zeros(5, 0)))
    torch.testing.assert_close(state.features, v)
    assert torch.equal(model.encoder_inputs(x, state)[2], state.features)


# ---- a learned prior ----------------------------------------------------------------------------


def priors(windows="both", **sizes):
    """The same weights with either prior, as one seed gives them."""
    read, write = WINDOWS[windows]
    models = []
    for prior in ("standard", "learned"):
        torch.manual_seed(0)
        config = DrawConfig(
            steps=4, units=16, latents=5, read=read, write=write, prior=prior, **sizes
        )
        models.append(Draw(config, (1, 8, 8)))
    return models


@pytest.mark.parametrize("windows", WINDOWS)
def test_a_fresh_learned_prior_is_the_standard_one(windows):
    standard, learned = priors(windows)
    theirs, ours = standard.state_dict(), learned.state_dict()
    assert set(ours) - set(theirs) == {"p.weight", "p.bias"}
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    x, eps = torch.rand(6, 1, 8, 8).round(), torch.randn(4, 6, 5)
    for state in [learned.start(torch.zeros(6, 0)), *generate(learned, eps)]:
        p = learned.prior(state)
        assert torch.equal(p.mu, torch.zeros(6, 5)) and torch.equal(p.log_sigma, torch.zeros(6, 5))
    a, b = (bound(model, x, eps) for model in (standard, learned))
    torch.testing.assert_close(a.rate, b.rate, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(a.distortion, b.distortion, rtol=1e-5, atol=1e-5)


def test_the_posterior_is_in_the_learned_priors_units():
    """The rate is that of N(d, s²) against N(0, I), wherever the prior stands."""
    _, learned = priors(classes=3)
    nn.init.normal_(learned.p.weight, std=0.5)
    nn.init.normal_(learned.p.bias)
    y = one_hot(torch.tensor([0, 1, 1]), 3)
    q, state = learned.infer(torch.rand(3, 1, 8, 8).round(), learned.start(y))
    p = learned.prior(state)
    assert p.mu.abs().min() > 0 and (p.mu[0] - p.mu[1]).abs().min() > 1e-4
    torch.testing.assert_close(p.mu[1], p.mu[2])
    d, log_s = learned.q(state.h_enc).chunk(2, 1)
    torch.testing.assert_close(q.kl(p), Gaussian(d, log_s).kl())
    torch.testing.assert_close(q.sample(p.mu), p.sample(d + log_s.exp() * p.mu))
