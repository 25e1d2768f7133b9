"""Kernels serve where they are the formulas, and stand back where they are not."""

import copy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import drawnet
from conftest import small
from drawnet import kernels, models
from drawnet.models.draw import Draw, DrawConfig
from drawnet.models.sequential import StepModel, bound, generate
from drawnet.nn import attention, distributions, recurrent

pytestmark = pytest.mark.skipif(
    isinstance(kernels.library(), str), reason="no kernels on this machine"
)
STEP_MODELS = [kind for kind in models.names() if issubclass(models.module(kind).Model, StepModel)]
SIZES = {"steps": 4, "units": 16, "latents": 5, "read": 2, "write": 3}


def build(kind=Draw, seed=0, shape=(1, 8, 7)):
    torch.manual_seed(seed)
    return kind(DrawConfig(**SIZES), shape)


def batch(model, n=6, seed=1):
    torch.manual_seed(seed)
    x = torch.rand(n, *model.shape).round()
    return x, torch.randn(model.steps, n, *model.latents)


def loss_and_gradients(model):
    x, eps = batch(model)
    total = bound(model, x, eps).total.mean()
    named = dict(model.named_parameters())
    return [total, *torch.autograd.grad(total, list(named.values()))]


def assert_alike(a, b):
    """To rounding, of which windows make more."""
    for ours, theirs in zip(loss_and_gradients(a), loss_and_gradients(b), strict=True):
        assert (ours - theirs).norm() <= 1e-3 * theirs.norm() + 1e-6


@pytest.mark.parametrize("kind", STEP_MODELS)
def test_a_model_with_kernels_is_the_model(kind):
    plain = models.build(small(kind), (1, 8, 8))
    for p in plain.parameters():
        torch.nn.init.normal_(p, std=0.1)
    fast = copy.deepcopy(plain)
    report = kernels.install(fast)
    assert report and set(report.values()) == {"kernel"}
    assert_alike(fast, plain)
    kernels.uninstall(fast)
    for ours, theirs in zip(loss_and_gradients(fast), loss_and_gradients(plain), strict=True):
        assert torch.equal(ours, theirs)


def test_every_part_of_draw_has_its_kernel():
    parts = {"encoder", "q", "decoder", "heads", "read", "write", "error_image", "sample_and_kl"}
    assert kernels.install(build()).keys() == parts


def test_an_equation_that_is_changed_in_the_source_changes_what_runs(tmp_path):
    """The bundled mnist's bound on 64 digits, with kernels on: 65.9, and 872.4 without a glimpse."""
    script = """
import torch
from drawnet import data, load
from drawnet.models.sequential import bound
model = load("mnist")
digits = torch.from_numpy(data.load("digits").splits["test"].pixels[:64])
torch.manual_seed(0)
with torch.no_grad():
    print(bound(model, (digits > 127).float(), torch.randn(64, 64, 100)).total.mean().item())
"""
    package = tmp_path / "drawnet"
    shutil.copytree(Path(drawnet.__file__).parent, package)
    formulas = package / "nn" / "attention.py"
    text = formulas.read_text(encoding="utf-8")
    assert text.count("] * glimpse") == 1

    def run():
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        lines = [line for line in done.stderr.splitlines() if "kernels: " in line]
        return float(done.stdout), lines

    before, silence = run()
    formulas.write_text(text.replace("] * glimpse", "] * glimpse * 0"), encoding="utf-8")
    after, lines = run()
    assert before == pytest.approx(65.9, abs=0.2) and silence == []
    assert after == pytest.approx(872, abs=2)
    assert len(lines) == 1 and "read is not what its kernel computes" in lines[0]


class Blind(Draw):
    """DRAW whose glimpse is nothing."""

    def read(self, images, window):
        return 0 * super().read(images, window)


def test_a_method_that_a_subclass_overrides_runs_and_the_rest_is_served():
    report = kernels.install(blind := build(Blind))
    assert "read" not in report and set(report.values()) == {"kernel"}
    kernels.install(draw := build())
    x, eps = batch(draw)
    assert not torch.equal(bound(blind, x, eps).total, bound(draw, x, eps).total)
    with torch.no_grad():
        draw.encoder.weight[:, : 2 * SIZES["read"] ** 2] = 0  # what it reads is not used
    torch.testing.assert_close(bound(blind, x, eps).total, bound(draw, x, eps).total)


CHANGES = {
    "read": (attention, "read", lambda f: lambda *a: 1.01 * f(*a)),
    "write": (attention, "write", lambda f: lambda c, *a: f(c.detach(), *a)),  # a gradient alone
    "error_image": (distributions, "error_image", lambda f: lambda x, p: f(x, p) + 0.01),
    "sample_and_kl": (
        distributions,
        "sample_and_kl",
        lambda f: lambda *a: (f(*a)[0], 2 * f(*a)[1]),
    ),
    "encoder": (recurrent, "cell", lambda f: lambda gates, c: f(gates + 0.01, c)),
}


@pytest.mark.parametrize("part", CHANGES)
def test_a_kernel_that_is_not_its_formula_stands_back(part, monkeypatch):
    module, name, change = CHANGES[part]
    monkeypatch.setattr(module, name, change(getattr(module, name)))
    model, twin = build(), build()
    with pytest.warns(UserWarning, match="kernels: .* is not what its kernel") as said:
        report = kernels.install(model)
    changed = {"encoder", "decoder"} if part == "encoder" else {part}
    assert {name for name, found in report.items() if found != "kernel"} == changed
    assert len(said) == len(changed)
    assert_alike(model, twin)


@pytest.mark.parametrize("name", ["relative_posterior", "sample_and_kl"])
def test_a_learned_priors_kernel_that_is_not_its_formula_stands_back(name, monkeypatch):
    def learned():
        torch.manual_seed(0)
        model = Draw(DrawConfig(**SIZES, prior="learned"), (1, 8, 7))
        torch.nn.init.normal_(model.p.weight, std=0.3)
        return model

    assert kernels.install(learned())[name] == "kernel"
    formula = getattr(distributions, name)

    def changed(q, p, *rest):
        first, second = formula(q, p, *rest)
        return distributions.Gaussian(first, 2 * second)

    monkeypatch.setattr(distributions, name, changed)
    model, twin = learned(), learned()
    with pytest.warns(UserWarning, match=f"kernels: {name} is not what its kernel"):
        report = kernels.install(model)
    assert {part for part, found in report.items() if found != "kernel"} == {name}
    assert_alike(model, twin)


def test_rows_in_pieces_have_formulas():
    """A transposed latent is none of the kernel's."""
    model = Draw(DrawConfig(**SIZES, prior="learned"), (1, 8, 7))
    kernels.install(model)
    mu, log_sigma, eps = torch.randn(3, 5, 6)
    d = distributions.Gaussian(mu.T, log_sigma.T)
    z, kl = model.sample_and_kl(d, d, eps.T)
    torch.testing.assert_close((z, kl), distributions.sample_and_kl(d, d, eps.T))
    assert torch.equal(model.relative_posterior(d, d).mu, d.sample(d.mu))


def test_a_clamp_that_is_moved_is_noticed(monkeypatch):
    monkeypatch.setattr(attention, "LIMIT", 11.0)
    with pytest.warns(UserWarning, match="kernels: "):
        report = kernels.install(build())
    assert report["read"] != "kernel" and report["write"] != "kernel"


def test_other_numbers_have_formulas():
    model = build().double()
    report = kernels.install(model)
    assert all("kernels take float32, the weights are torch.float64" in w for w in report.values())
    assert "read" not in vars(model)


def test_other_devices_have_formulas_and_it_is_said():
    model = build().to("meta")
    with pytest.warns(UserWarning, match="kernels are for the CPU: .* the model on meta"):
        report = kernels.install(model)
    assert report and all("for the CPU" in why for why in report.values())
    assert "unrolled" not in vars(model)


def test_a_model_that_moves_on_takes_the_formulas_along():
    kernels.install(model := build())
    model.double()
    x, eps = (t.double() for t in batch(model))
    expected = bound(build().double(), x, eps).total
    torch.testing.assert_close(bound(model, x, eps).total, expected, rtol=1e-10, atol=1e-10)


def test_a_copy_has_kernels_of_its_own():
    kernels.install(model := build())
    x, eps = batch(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    expected = copy.deepcopy(other)
    kernels.uninstall(expected)
    assert torch.equal(bound(other, x, eps).total, bound(expected, x, eps).total)
    torch.testing.assert_close(bound(model, x, eps).total, bound(build(), x, eps).total)


def test_installing_leaves_no_trace():
    model = build()
    state, before = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    kernels.install(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_tracer_sees_formulas():
    kernels.install(model := build().requires_grad_(False))

    @torch.no_grad()
    def draw(eps):
        *_, state = generate(model, eps)
        return model.likelihood(state).mean

    _, eps = batch(model)
    traced = torch.jit.trace(draw, eps, check_trace=False)
    torch.testing.assert_close(traced(2 * eps), draw(2 * eps))
