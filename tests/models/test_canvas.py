"""What all models with a canvas have in common: every size and likelihood, labels, gradients, files."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

import reference
from drawnet import models
from drawnet.data.config import Data
from drawnet.data.pipeline import one_hot
from drawnet.errors import UserError
from drawnet.models.sequential import bound, generate, log_weights, reconstruct
from drawnet.nn.convolution import ConvEncoder
from drawnet.training import checkpoint, loop
from drawnet.training.config import Run
from reference import LIKELIHOODS, images, last, noise

WINDOWS = {"both": (2, 3), "read only": (3, 0), "write only": (0, 2), "no": (0, 0)}
MODELS = {
    f"draw, {name} windows, {prior} prior": {"read": read, "write": write, "prior": prior}
    for name, (read, write) in WINDOWS.items()
    for prior in ("standard", "learned")
} | {
    "draw, both windows, convolutions of x": {"read": 2, "write": 3, "features": 3},
    "conv_draw": {"features": 4},
    "ladder_draw": {"features": 6, "units": 5, "dense": 2, "coarse": 1},
    "patch_draw": {"features": 12, "read": 5, "write": 6},
    "stem_draw": {"features": 5},
    "vae": {"layers": 2},
}  # fmt: skip
PAIRS = [
    (name, likelihood) for name in MODELS for likelihood in LIKELIHOODS
    if likelihood != "mixture" or "draw, " not in name
]  # fmt: skip
GREY = {name: "logistic" if "draw, " in name else "mixture" for name in MODELS}
every_model = pytest.mark.parametrize("name", MODELS)
every_pair = pytest.mark.parametrize(("name", "likelihood"), PAIRS)


def settings(name, **config):
    """A model's kind, and its sizes."""
    sizes = {"steps": 3, "units": 6, "latents": 2, "components": 2, **MODELS[name], **config}
    kind = name.split(",")[0]
    return kind, {k: v for k, v in sizes.items() if hasattr(models.config(kind), k)}


def fresh(name, shape=(1, 8, 8), **config):
    kind, sizes = settings(name, **config)
    return reference.fresh(kind, shape, **sizes)


def lively(name, shape=(1, 8, 8), dtype=torch.float64, std=0.3, **config):
    kind, sizes = settings(name, **config)
    return reference.lively(kind, shape, dtype, std, **sizes)


# ---- shapes -------------------------------------------------------------------------------------


@every_pair
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 12), (2, 7, 5), (1, 1, 3)])
def test_images_of_any_size_and_colour(shape, name, likelihood):
    model = fresh(name, shape, likelihood=likelihood)
    x, eps = images(model, 5), noise(model, 5)
    result = bound(model, x, eps)
    assert result.rate.shape == (model.steps, 5) and result.distortion.shape == (5,)
    assert result.total.isfinite().all()
    for trajectory in (generate(model, eps), reconstruct(model, x, eps)):
        states = list(trajectory)
        assert len(states) == model.steps
        p = model.likelihood(states[-1])
        assert p.mean.shape == p.sample(torch.rand_like(x)).shape == x.shape
    assert log_weights(model, x, eps).shape == (5,)


@pytest.mark.parametrize("name", ["conv_draw", "patch_draw", "stem_draw"])
@pytest.mark.parametrize("num_downsamples", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_any_stride_and_kernel(name, num_downsamples, kernel):
    model = fresh(name, (1, 12, 8), num_downsamples=num_downsamples, kernel=kernel)
    assert bound(model, images(model), noise(model)).total.isfinite().all()


WRONG = ["steps", "units", "layers", "latents", "features", "num_downsamples", "components"]
WRONG += ["dense", "coarse", "fine"]
WRONG = [{name: 0} for name in WRONG] + [{"read": 1}, {"write": 1}, {"classes": -1}]
REFUSED = [
    (kind, wrong)
    for kind in ("draw", "conv_draw", "ladder_draw", "patch_draw", "stem_draw", "vae")
    for wrong in [*WRONG, {"kernel": 4}, {"kernel": -1}]
    if hasattr(models.config(kind), next(iter(wrong)))
    and (kind, wrong) != ("draw", {"features": 0})
]


@pytest.mark.parametrize(("kind", "wrong"), [*REFUSED, ("patch_draw", {"write": 0})])
def test_senseless_sizes_are_refused(kind, wrong):
    with pytest.raises(UserError, match=next(iter(wrong)).replace("_", "-")):
        models.config(kind)(**wrong)


# ---- a fresh model ------------------------------------------------------------------------------


@every_pair
def test_the_canvas_starts_at_the_data_mean(name, likelihood):
    model = fresh(name, (3, 8, 8), likelihood=likelihood)
    mean = torch.rand(3, 8, 8) * 0.9 + 0.05
    model.init_from_mean(mean)
    error = (model.likelihood(model.start(torch.zeros(1, 0))).mean[0] - mean).abs().max()
    assert error < (0.15 if likelihood == "mixture" else 1e-5)  # components stand apart


@every_pair
@pytest.mark.parametrize("shape", [(1, 8, 12), (3, 9, 6)])
def test_a_new_model_can_learn_with_all_its_parameters(shape, name, likelihood):
    model = fresh(name, shape, likelihood=likelihood)
    x, eps = images(model, 8), noise(model, 8)
    model.init_from_mean(x.mean(0))
    bound(model, x, eps).total.mean().backward()
    for part, p in model.named_parameters():
        assert p.grad.isfinite().all() and p.grad.abs().max() > 1e-7, part
    if getattr(model, "p", None):
        assert (model.p.weight.grad != 0).float().mean() > 0.9


# ---- the step contract --------------------------------------------------------------------------


@every_model
def test_float32_agrees_with_float64(name):
    model = lively(name, classes=3)
    x, eps, y = images(model), noise(model), one_hot(torch.tensor([0, 2, 1, 2]), 3)
    exact = bound(model, x, eps, y)
    ours = bound(model.float(), x.float(), eps.float(), y)
    torch.testing.assert_close(ours.distortion.double(), exact.distortion, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.rate.double(), exact.rate, rtol=1e-4, atol=1e-4)


@every_model
def test_samples_do_not_depend_on_the_encoder(name):
    model = lively(name)
    eps = noise(model)
    before = [state.c for state in generate(model, eps)]
    with torch.no_grad():
        for part, p in model.named_parameters():
            if part.startswith(("read", "encoder", "q.", "h_enc", "s_enc")):
                p.normal_()
        if MODELS[name].get("read") and "draw, " in name:
            model.heads.weight[-5:].normal_()
    after = [state.c for state in generate(model, eps)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not torch.allclose(before[0], model.start(torch.zeros(4, 0)).c)
    assert all(not torch.allclose(a, b) for a, b in pairwise(before))


@every_model
def test_images_of_a_batch_do_not_meet(name):
    model = lively(name, (3, 8, 12), likelihood=GREY[name])
    x, eps = images(model), noise(model)
    whole = bound(model, x, eps)
    for k in range(4):
        alone = bound(model, x[k : k + 1], eps[:, k : k + 1])
        assert alone.total.item() == pytest.approx(whole.total[k].item(), rel=1e-10)
        assert torch.allclose(alone.rate[:, 0], whole.rate[:, k], rtol=1e-8)


@pytest.mark.parametrize(
    "name", [name for name in MODELS if name.endswith(("learned prior", "conv_draw"))]
)
def test_bound_weights_and_samples_are_of_one_learned_prior(name):
    model = lively(name, (1, 4, 4), latents=1)
    draws, k = 4000, 10
    x, eps = images(model, 1).expand(draws, -1, -1, -1), noise(model, draws)
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
    # Another prior is another model.
    before = last(generate(model, eps[:, :9])).c
    with torch.no_grad():
        model.p.bias.add_(1)
    assert not torch.allclose(last(generate(model, eps[:, :9])).c, before)
    assert not torch.allclose(log_weights(model, x[:9], eps[:, :9]), log_w[:9], atol=0.1)


# ---- gradients and number types -----------------------------------------------------------------


@pytest.mark.parametrize("recompute", [0, 2])
@every_pair
def test_every_parameter_gets_a_gradient(name, likelihood, recompute):
    model = lively(name, (3, 16, 20), torch.float32, 0.1, likelihood=likelihood)
    for encoder in (m for m in model.modules() if isinstance(m, ConvEncoder)):
        for depth, layer in enumerate(encoder.layers):  # a ReLU that is never on learns nothing
            nn.init.constant_(layer.bias, 0.5 * 2**depth)
    result = bound(model, images(model, 12), noise(model, 12), recompute=recompute)
    result.total.mean().backward()
    for part, p in model.named_parameters():
        assert p.grad.isfinite().all() and (p.grad != 0).float().mean() > 0.9, part


@every_pair
def test_gradients_are_finite_differences(name, likelihood):
    model = lively(name, (2, 5, 6), likelihood=likelihood)
    reference.assert_finite_differences(model, images(model, 2), noise(model, 2))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
@every_model
def test_recomputation_changes_nothing(name, precision, fused):
    model = lively(name, (1, 4, 3), torch.float32, steps=5)
    if fused:
        reference.installed(model)
    model.precision = precision
    x, eps, outs = images(model, 3), noise(model, 3), []
    for k in (0, 1, 2, 3, 5, 7):
        result = bound(model, x, eps, recompute=k)
        gradients = torch.autograd.grad(result.total.sum(), list(model.parameters()))
        outs.append(([result.distortion, result.rate, *result.state], gradients))
    # Kernels round weight gradients once a block, and blocks end with what is recomputed together;
    # those of a learned prior are differences of near equals.
    limits = [1e-5 if not (fused and precision) else 1 if part.startswith("p.") else 0.01
              for part, _ in model.named_parameters()]  # fmt: skip
    for values, gradients in outs[1:]:
        torch.testing.assert_close(values, outs[0][0], rtol=1e-5, atol=1e-5)
        for ours, theirs, limit in zip(gradients, outs[0][1], limits, strict=True):
            assert (ours - theirs).norm() <= limit * theirs.norm()


@pytest.mark.parametrize("fused", [False, True])
@every_model
def test_bfloat16_products_move_the_loss_by_less_than_a_percent(name, fused):
    model = lively(name, (3, 12, 8), torch.float32, 0.1, units=16, likelihood=GREY[name])
    if fused:
        reference.installed(model)
    x, eps, losses = images(model, 16), noise(model, 16), []
    for model.precision in (None, torch.bfloat16):
        losses.append(bound(model, x, eps))
    exact, rounded = (b.total.mean() for b in losses)
    assert rounded.item() == pytest.approx(exact.item(), rel=0.01)
    assert not torch.equal(losses[0].total, losses[1].total)
    assert {t.dtype for t in (*losses[1].state, *losses[1][:2])} == {torch.float32}
    theirs, ours = (
        torch.autograd.grad(loss, list(model.parameters())) for loss in (exact, rounded)
    )
    assert {g.dtype for g in ours} == {torch.float32}
    theirs, ours = (torch.cat([g.flatten() for g in gs]) for gs in (theirs, ours))
    assert (ours - theirs).norm() < 0.02 * theirs.norm()


# ---- files and learning -------------------------------------------------------------------------


@every_model
def test_a_saved_model_is_the_same_model(name, tmp_path):
    model = lively(name, (3, 8, 8), torch.float32, likelihood=GREY[name])
    run = Run("tiny", model.config)
    checkpoint.save_model(tmp_path / "model.safetensors", model, run, {})
    loaded = checkpoint.load_model(tmp_path, kernels="off")
    assert loaded.run == run
    x, eps = images(model), noise(model)
    assert torch.equal(bound(model, x, eps).total, bound(loaded.network, x, eps).total)


@pytest.mark.parametrize(
    ("name", "sizes", "nats"),
    [
        ("conv_draw", {"units": 8, "features": 6}, 14),
        ("stem_draw", {"units": 24, "latents": 4}, 12),
        ("ladder_draw", {"features": 12, "dense": 4}, 14),
    ],
)
def test_it_learns_squares(name, sizes, nats, tiny_data, tmp_path):
    """From 22 nats, those of independent pixels, well below; where a square is takes 3.2."""
    kind, config = settings(name, **sizes)
    run = Run("tiny", models.config(kind)(**config), Data("blobs"), precision="float32")
    run = replace(run, examples=9_000, batch=60, lr=1e-2, warmup=600, evaluate_every=3_000)
    progress = loop.train(run, tiny_data, tmp_path)
    assert progress.skipped == 0 and progress.best < nats
