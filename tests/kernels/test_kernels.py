"""Every fused kernel against its PyTorch twin, and what happens where there are no kernels."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from drawnet import kernels
from drawnet.errors import UserError
from drawnet.kernels import attention, compiled, distributions
from drawnet.kernels.layers import PackedSequence
from drawnet.kernels.packing import PackedWeights
from drawnet.kernels.recurrent import Cell, LSTMStep
from drawnet.nn import attention as formulas
from drawnet.nn import distributions as latent_formulas
from drawnet.nn import recurrent
from drawnet.nn.distributions import Gaussian

needs_kernels = pytest.mark.skipif(
    isinstance(kernels.library(), str), reason="no kernels on this machine"
)


def compare(fused, plain, leaves, limit=2e-5):
    """Values and gradients of two functions of the same float32 leaves, in float64 for `plain`."""
    single = [leaf.clone().requires_grad_() for leaf in leaves]
    double = [leaf.double().requires_grad_() for leaf in leaves]
    outs = []
    for function, operands in ((fused, single), (plain, double)):
        torch.manual_seed(5)
        out = function(*operands)
        total = sum((o * torch.randn(o.shape).to(o.dtype)).sum() for o in out)
        outs.append([*out, *torch.autograd.grad(total, operands)])
    for ours, theirs in zip(*outs, strict=True):
        assert ours.dtype == torch.float32
        assert ours.shape == theirs.shape
        scale = max(1.0, theirs.abs().max().item())
        assert (ours.double() - theirs).abs().max() <= limit * scale


def raw_windows(batch, size, n):
    """Windows of all kinds that a network may emit, most of them within the image."""
    raw = torch.randn(batch, 5) * torch.tensor([0.4, 0.4, 1.0, 0.5, 0.7])
    if batch > 3:
        raw[1, :2] = torch.tensor([3.0, -40.0])  # off the image
        raw[2, 2] = 30.0  # clamped
        raw[3, 3] = -1.5
    if batch > 5:
        raw[4, 2:4] = torch.tensor([0.0, -3.0])  # in a corner of what is worked on
        raw[5, :4] = torch.tensor([0.9, -0.9, 0.0, -3.0])
    return raw


# ---- twins --------------------------------------------------------------------------------------


@needs_kernels
@pytest.mark.parametrize("n", [2, 5, 12])
@pytest.mark.parametrize(
    ("batch", "channels", "size"),
    [(1, 1, (28, 28)), (130, 1, (9, 14)), (4, 3, (14, 9)), (6, 2, (64, 100)), (1, 3, (7, 6))],
)
def test_read_and_write(batch, channels, size, n):
    torch.manual_seed(n)
    x, x_hat = torch.randn(2, batch, channels, *size)
    patch = torch.randn(batch, channels, n, n)
    raw = raw_windows(batch, size, n)

    def read(module):
        return lambda x, x_hat, raw: (module.read((x, x_hat), raw, n),)

    def write(module):
        return lambda canvas, patch, raw: (module.write(canvas, patch, raw),)

    # A centre's gradient sums over the whole image: float32 has some 1e-4 of it.
    compare(read(attention), read(formulas), (x, x_hat, raw), 2e-4)
    compare(write(attention), write(formulas), (x, patch, raw), 2e-4)


@needs_kernels
@pytest.mark.parametrize("which", range(5))
def test_a_window_that_is_no_number_is_not_hidden(which):
    """Where no filter weighs anything is left out: NaN must not count as nothing."""
    raw = torch.zeros(2, 5)
    raw[0, which] = torch.nan
    x, patch = torch.rand(2, 1, 70, 70), torch.rand(2, 1, 3, 3)
    for out in (attention.read((x,), raw, 3), attention.write(x, patch, raw)):
        assert out[0].isnan().any() and out[1].isfinite().all()


@needs_kernels
def test_a_step_of_unequal_batches_is_refused():
    layer = recurrent.LSTM((3,), 4)
    x, h, c = torch.zeros(5, 3), torch.zeros(5, 4), torch.zeros(5, 4)
    with PackedSequence(layer, torch.float32, 0, [layer]):
        for wrong in ((x[:2], h, c), (x, h[:1], c), (x, h, c[:1])):
            with pytest.raises(ValueError, match="expected"):
                layer((wrong[0],), *wrong[1:])


def lstm_cell(gates, bias, c, dtype=torch.float32, shift=None):
    """The fused step with the identity for its weights: the cell alone."""
    identity = torch.eye(gates.shape[1])
    weights = PackedWeights(identity, bias, dtype, 0, groups=4)
    return LSTMStep.apply(identity, bias, weights, shift, c, gates.float())


@needs_kernels
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (130, 3, 5, 7), (4, 1, 28, 28)])
def test_error_image(shape):
    torch.manual_seed(0)
    x, logits = torch.rand(shape), 20 * torch.randn(shape)

    def fused(x, logits):
        return (distributions.error_image(x, logits),)

    compare(fused, lambda x, logits: (x - logits.sigmoid(),), (x, logits), 1e-6)


@needs_kernels
@pytest.mark.parametrize(("batch", "units"), [(1, 1), (130, 3), (4, 70)])
def test_lstm(batch, units):
    torch.manual_seed(0)
    gates = 2 * torch.randn(batch, 4 * units)
    bias, c = torch.randn(4 * units), torch.randn(batch, units)

    def fused(gates, c):
        return lstm_cell(gates, bias, c)

    compare(fused, lambda gates, c: recurrent.cell(gates + bias, c), (gates, c), 1e-6)

    def shifted(gates, c, shift):
        return lstm_cell(gates, bias, c, shift=shift)

    def formula(gates, c, shift):
        return recurrent.cell(gates + bias + shift, c)

    compare(shifted, formula, (gates, c, torch.randn(batch, 4 * units)), 1e-6)


@needs_kernels
@pytest.mark.parametrize(("batch", "units"), [(1, 1), (130, 3), (4, 70)])
def test_lstm_with_bfloat16_gates(batch, units):
    torch.manual_seed(0)
    gates = (2 * torch.randn(batch, 4 * units)).bfloat16().float()
    bias, c = torch.randn(4 * units), torch.randn(batch, units)

    def fused(gates, c):
        return lstm_cell(gates, bias, c, torch.bfloat16)

    # Activations are kept, and gradients handed on, with 8 bits.
    compare(fused, lambda gates, c: recurrent.cell(gates + bias, c), (gates, c), 0.015)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 3, 64, 71, 200])
def test_products_of_any_size_and_parts_that_want_no_gradient(batch, dtype):
    """Blocks, tiles and panels that are not full; an input of four is only looked at."""
    torch.manual_seed(batch)
    layer, widths = recurrent.Linear(90, 45), (1, 33, 16, 40)
    exact = {torch.float32: 2e-5, torch.bfloat16: 0.02}[dtype]
    parts = [torch.randn(batch, 2 * n)[:, :n].requires_grad_(n != 33) for n in widths]
    wanted = [part for part in parts if part.requires_grad]
    with PackedSequence(layer, dtype, 0, [layer]):
        out = layer(*parts)
    assert "LinearStep" in type(out.grad_fn).__name__ or not kernels.serves(dtype)
    plain, noise = layer(*parts), torch.randn(batch, 45)
    operands = (*wanted, layer.weight, layer.bias)
    ours, theirs = (torch.autograd.grad((o * noise).sum(), operands) for o in (out, plain))
    for a, b in zip((out, *ours), (plain, *theirs), strict=True):
        assert (a - b).abs().max() <= exact * b.abs().max()


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("batch", "units"), [(1, 1), (130, 3), (4, 70)])
def test_a_cell_on_gates_from_elsewhere(batch, units, dtype):
    if not kernels.serves(dtype):
        pytest.skip("the processor has no products of bfloat16")
    torch.manual_seed(0)
    gates = (2 * torch.randn(batch, 4 * units)).to(dtype).float()
    bias, c = torch.randn(4 * units), torch.randn(batch, units)

    def through(gates, bias, c):
        return Cell.apply(gates.to(dtype), bias, c)

    def plain(gates, bias, c):
        return recurrent.cell(gates + bias, c)

    limit = {torch.float32: 1e-6, torch.bfloat16: 0.015}[dtype]
    compare(through, plain, (gates, bias, c), limit)
    with pytest.raises(ValueError, match="expected a tensor"):
        Cell.apply(gates, bias[1:], c)


@needs_kernels
@pytest.mark.parametrize(("batch", "latents"), [(1, 1), (130, 3), (4, 100)])
def test_gaussian(batch, latents):
    torch.manual_seed(0)
    both, eps = torch.randn(batch, 2 * latents), torch.randn(batch, latents)

    def fused(both):
        return distributions.sample_and_kl(both.chunk(2, 1), None, eps)

    def plain(both):
        q = Gaussian(*both.chunk(2, 1))
        return q.sample(eps), q.kl()

    assert fused(both)[0].grad_fn is None
    grad_fn = fused(both.clone().requires_grad_())[0].grad_fn
    assert "SampleAndKL" in type(grad_fn).__name__  # it is the kernel that is tested
    compare(fused, plain, (both,), 2e-6)


@needs_kernels
@pytest.mark.parametrize("shape", [(1, 1), (130, 3), (4, 100), (3, 2, 4, 5)])
def test_gaussian_and_a_learned_prior(shape):
    """Both kernels, of halves of maps and of vectors, against the formulas."""
    torch.manual_seed(0)
    batch, first, *rest = shape
    q, p = (torch.randn(batch, 2 * first, *rest) for _ in range(2))
    eps = torch.randn(shape)

    def fused(q, p):
        d, p = q.chunk(2, 1), p.chunk(2, 1)
        return *distributions.relative_posterior(d, p), *distributions.sample_and_kl(d, p, eps)

    def plain(q, p):
        d, p = Gaussian(*q.chunk(2, 1)), Gaussian(*p.chunk(2, 1))
        return *latent_formulas.relative_posterior(d, p), d.sample(eps), d.kl(p)

    assert distributions.in_rows(*q.chunk(2, 1))
    grad_fns = [t.grad_fn for t in fused(q.clone().requires_grad_(), p)]
    names = ["RelativePosterior"] * 2 + ["SampleAndKLToPrior"] * 2
    assert [type(f).__name__.removesuffix("Backward") for f in grad_fns] == names
    compare(fused, plain, (q, p), 5e-6)


@needs_kernels
def test_operands_need_not_be_contiguous():
    torch.manual_seed(0)
    x = torch.randn(6, 9, 3, 4).permute(3, 2, 0, 1)  # (4, 3, 6, 9)
    wide = torch.randn(4, 3 * 25 + 5)
    patch, raw = wide[:, :75].view(4, 3, 5, 5), 0.4 * wide[:, 75:]
    dense = [t.clone(memory_format=torch.contiguous_format) for t in (x, patch, raw)]
    fused, plain = (lambda x, r, m=m: (m.read((x,), r, 5),) for m in (attention, formulas))
    compare(fused, plain, (x, raw), 2e-4)
    assert torch.equal(attention.write(x, patch, raw), attention.write(*dense))
    flipped = x.mT
    ours = attention.write(flipped.expand(4, 3, 9, 6), patch, raw)
    assert torch.equal(ours, attention.write(flipped.contiguous(), patch, raw))
    one = torch.randn(1, 3, 6, 9)
    ours = attention.write(one.expand(4, -1, -1, -1), patch, raw)
    assert torch.equal(ours, attention.write(one.repeat(4, 1, 1, 1), patch, raw))
    # Gradients that are not contiguous either: .sum() hands on an expanded scalar.
    leaf = x.clone().requires_grad_()
    attention.write(leaf, patch, raw).sum().backward()
    assert torch.equal(leaf.grad, torch.ones_like(x))
    c = torch.randn(7, 4).T
    h, s = lstm_cell(torch.zeros(4, 28), torch.zeros(28), c)
    torch.testing.assert_close((h, s), recurrent.cell(torch.zeros(4, 28), c))


@needs_kernels
def test_unequal_shapes_are_refused_before_memory_is_read():
    x, raw, patch = torch.zeros(2, 1, 6, 6), torch.zeros(2, 5), torch.zeros(2, 1, 3, 3)
    for images, window in (((x, x[:1]), raw), ((x, x[:, :, :5]), raw), ((x,), raw[:1])):
        with pytest.raises(ValueError, match="expected a tensor of shape"):
            attention.read(images, window, 3)
    for operands in ((x, patch[:1], raw), (x, patch, raw[:, :4]), (x, patch[..., :2, :], raw)):
        with pytest.raises(ValueError, match="expected a tensor of shape"):
            attention.write(*operands)
    with pytest.raises(ValueError, match="expected a tensor of shape"):
        distributions.sample_and_kl((raw, raw), None, torch.zeros(3, 5))


@needs_kernels
def test_only_float32_and_bfloat16_gates_reach_the_kernels():
    single, half = torch.zeros(2, 4), torch.zeros(2, 4, dtype=torch.bfloat16)
    assert compiled.usable(single, single)
    assert not compiled.usable(half, single)
    assert not compiled.usable(single, half)
    assert not compiled.usable(single.double())
    assert not compiled.usable(single.half())
    assert not compiled.usable(single.to("meta"))


# ---- extremes -----------------------------------------------------------------------------------


@needs_kernels
def test_sigmoid_and_tanh_at_extremes():
    v = torch.cat((torch.linspace(-100, 100, 4001), torch.tensor([0.0, 1e-3, -1e-3, 1e30, -1e30])))
    gates = torch.zeros(len(v), 4)
    expected = v.double()
    for k in range(4):
        operand = gates.clone()
        operand[:, k] = v
        leaf = operand.double().requires_grad_()
        c = torch.full((len(v), 1), 0.7)
        mine = operand.clone().requires_grad_()
        ours = lstm_cell(mine, torch.zeros(4), c)
        theirs = recurrent.cell(leaf, c.double())
        for a, b in zip(ours, theirs, strict=True):
            assert (a.double() - b).abs().max() < 3e-7
        a, b = (
            torch.autograd.grad(h.sum() + s.sum(), x)
            for (h, s), x in ((ours, mine), (theirs, leaf))
        )
        assert (a[0].double() - b[0]).abs().max() < 5e-7
    # Relative accuracy of e^x itself, by σ(x) far below zero and by a Gaussian's deviation.
    gates[:, 1], gates[:, 3] = 100.0, v
    h, _ = lstm_cell(gates, torch.zeros(4), torch.full((len(v), 1), 50.0))
    between = (v > -86) & (v < 86)
    assert (h[:, 0].double() / expected.sigmoid() - 1)[between].abs().max() < 1e-6
    s = torch.linspace(-86, 86, 4001)[None]
    z, _ = distributions.sample_and_kl((torch.zeros_like(s), s), None, torch.ones_like(s))
    assert (z.double() / s.double().exp() - 1).abs().max() < 1e-6


@needs_kernels
@pytest.mark.parametrize("where", range(5))
def test_nan_in_a_window_comes_out_as_nan(where):
    raw = torch.zeros(3, 5)
    raw[1, where] = float("nan")
    x, patch = torch.ones(3, 1, 6, 8), torch.ones(3, 1, 4, 4)
    glimpse, canvas = attention.read((x,), raw, 4), attention.write(x, patch, raw)
    for out in (glimpse, canvas):
        assert out[1].isnan().any()
        assert out[[0, 2]].isfinite().all()
    if where in (0, 1, 4):
        assert glimpse[1].isnan().all()


@needs_kernels
def test_nan_elsewhere_comes_out_as_nan():
    nan, raw = float("nan"), torch.zeros(2, 5)
    x, patch = torch.zeros(2, 1, 6, 6), torch.zeros(2, 1, 3, 3)
    x[0, 0, 2, 2] = patch[0, 0, 1, 1] = nan
    assert attention.read((x,), raw, 3)[0].isnan().any()
    assert attention.write(x[1:], patch[:1], raw[:1]).isnan().any()
    assert attention.write(x, patch, raw)[1].isfinite().all()
    for k in range(3):
        mu, s, eps = torch.zeros(3, 2, 4)
        (mu, s, eps)[k][0, 1] = nan
        z, kl = distributions.sample_and_kl((mu, s), None, eps)
        assert z[0, 1].isnan()
        assert kl[0].isnan() or k == 2
        assert z[1].isfinite().all()
        assert kl[1].isfinite()
    for k in range(4):
        for dtype in (torch.float32, torch.bfloat16):
            gates = torch.zeros(2, 4, dtype=dtype)
            gates[0, k] = nan
            h, c = lstm_cell(gates, torch.zeros(4), torch.ones(2, 1), dtype)
            assert h[0].isnan()
            assert c[0].isnan() or k == 3
            assert torch.stack((h[1], c[1])).isfinite().all()


# ---- with and without a compiler ----------------------------------------------------------------

LOSS = """
import sys, warnings, torch
from drawnet import kernels
from drawnet.models.draw import Draw, DrawConfig
from drawnet.models.sequential import bound
torch.manual_seed(0)
torch.set_num_threads(1)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = Draw(DrawConfig(steps=4, units=16, latents=5, read=2, write=3), (1, 8, 7))
    report = kernels.install(model) if sys.argv[1] == "auto" else {}
    x, eps = (torch.rand(6, 1, 8, 7) < 0.5).float(), torch.randn(4, 6, 5)
    loss = bound(model, x, eps).total.mean()
    loss.backward()
size = sum(p.grad.norm() for p in model.parameters())
ours = [str(w.message).replace(chr(10), " ") for w in caught]
served = sum(found == "kernel" for found in report.values())
print(loss.item(), size.item(), served, len(ours), *ours)
"""


def start(mode, **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-c", LOSS, mode],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def words(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip().split(" ", 4)


def test_the_loss_is_the_same_with_kernels_without_and_without_a_compiler(tmp_path):
    """Two processes compile into one empty folder at once, one wants none, one cannot have any."""
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho no such thing >&2\nexit 1\n")
    broken.chmod(0o755)
    new, empty = str(tmp_path / "new"), str(tmp_path / "empty")
    runs = [
        start("auto", XDG_CACHE_HOME=new),
        start("auto", XDG_CACHE_HOME=new),
        start("off"),
        start("auto", XDG_CACHE_HOME=empty, CC=str(broken)),
    ]
    one, two, off, failed = (words(run) for run in runs)
    if not isinstance(kernels.library(), str):
        assert one[2:] == two[2:] == ["8", "0"]
        assert one == two
        names = {p.suffix for p in (tmp_path / "new" / "drawnet").iterdir()}
        assert names == {".so", ".sha256"}
    assert off[2:] == ["0", "0"]
    assert failed[2:4] == ["0", "1"]
    assert "broken-cc: no such thing" in failed[4]
    assert off[:2] == failed[:2]
    for a, b in zip(one[:2], off[:2], strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-4)


@needs_kernels
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names kinds of x86-64 processors")
def test_narrower_vectors_give_the_same_loss(tmp_path):
    """Tiles are cut for the processor: 16, 8 or 4 floats wide."""
    runs = []
    for kind in ("x86-64-v3", "x86-64-v2"):
        compiler = tmp_path / kind
        compiler.write_text(f'#!/bin/bash\nexec cc "${{@/-march=native/-march={kind}}}"\n')
        compiler.chmod(0o755)
        runs.append(start("auto", XDG_CACHE_HOME=str(tmp_path), CC=str(compiler)))
    plain, *narrow = (words(run) for run in (start("off"), *runs))
    for loss, size, served, *_ in narrow:
        assert served == "8"
        assert float(loss) == pytest.approx(float(plain[0]), rel=1e-5)
        assert float(size) == pytest.approx(float(plain[1]), rel=1e-4)


@pytest.mark.parametrize("why", [OSError("read-only"), UserError("no home")])
def test_a_cache_that_cannot_be_written_costs_a_line(why, monkeypatch):
    def fail(*_):
        raise why

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(compiled, "cache_dir", fail)
    assert compiled.library.__wrapped__() == str(why)
    monkeypatch.setattr(sys.modules["drawnet.kernels.install"], "library", lambda: str(why))
    layer = recurrent.Linear(2, 3)
    with pytest.warns(UserWarning, match=f"kernels are off, formulas serve, slower: {why}"):
        assert set(kernels.install(Wrapped(layer)).values()) == {str(why)}


class Wrapped(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer


@needs_kernels
@pytest.mark.parametrize("damage", ["half", "flipped", "empty", "foreign", "unproved"])
def test_a_damaged_library_in_the_cache_is_built_again(tmp_path, damage):
    """Half of one is a bus error when it is loaded, flipped bytes are a segmentation fault."""
    library = compiled.build(tmp_path)
    sound, proof = library.read_bytes(), library.with_suffix(".sha256")
    if damage == "unproved":
        proof.unlink()
    else:
        half, flipped = (
            sound[: len(sound) // 2],
            bytes(b ^ 255 for b in sound[:4096]) + sound[4096:],
        )
        spoiled = {"half": half, "flipped": flipped, "empty": b"", "foreign": b"no library"}
        library.write_bytes(spoiled[damage])
    assert compiled.build(tmp_path) == library
    assert compiled._sound(library, proof)
    assert {p.suffix for p in tmp_path.iterdir()} == {".so", ".sha256"}
