"""The window against the paper's sums, and what it does with extreme numbers."""

import ctypes

import numpy as np
import pytest
import torch

import oracle
from drawnet import kernels
from drawnet.kernels import attention as fused
from drawnet.nn import attention

SIZES = [(5, 5), (4, 7), (7, 4)]
SIDES = [2, 3, 4, 5]
EXTREMES = {
    "narrow": (0.1, -0.2, -50.0, 0.0, 0.0),
    "narrow and between two pixels": (0.0, 0.0, -50.0, -1.0, 0.0),
    "wide": (0.1, -0.2, 50.0, 0.0, 0.0),
    "far left": (-1e6, 0.3, 0.0, 0.0, 0.0),
    "far right and down": (1e6, 1e6, 0.0, 0.0, 0.0),
    "at the edge of float32": (1e30, -1e30, 0.0, 0.0, 0.0),
    "far and narrow": (-1e30, 1e30, -50.0, 0.0, 0.0),
    "just outside and narrow": (2.5, -3.1, -50.0, 0.0, 0.0),
    "huge stride": (0.1, -0.2, 0.0, 50.0, 0.0),
    "huge stride and narrow": (0.1, -0.2, -50.0, 50.0, 0.0),
    "no stride": (0.1, -0.2, 0.0, -50.0, 0.0),
    "no intensity": (0.1, -0.2, 0.0, 0.0, -50.0),
    "huge intensity": (0.1, -0.2, 0.0, 0.0, 50.0),
    "everything": (1e30, -1e30, -50.0, 50.0, 50.0),
}


@pytest.fixture(params=["float64", "float32", "fused"])
def dtype(request, monkeypatch):
    """The formulas in two number types, and the fused kernels in their place."""
    if request.param == "fused":
        if not isinstance(kernels.library(), ctypes.CDLL):
            pytest.skip("no kernels on this machine")
        monkeypatch.setattr(attention, "read", fused.read)
        monkeypatch.setattr(attention, "write", fused.write)
    return torch.float64 if request.param == "float64" else torch.float32


def close(ours, theirs, dtype, scale=1.0):
    limit = scale * (1e-12 if dtype == torch.float64 else 2e-5)
    theirs = torch.as_tensor(theirs, dtype=torch.float64)
    assert ours.shape == theirs.shape
    assert (ours.double() - theirs).abs().max() <= limit * max(1.0, theirs.abs().max().item())


def some_windows(count, seed):
    """Random parameters, every centre less than one image size off the image.

    Beyond that the package departs from the paper: it clamps (see the elongated image below).
    """
    return np.random.default_rng(seed).uniform(-0.4, 0.4, (count, 5)) * [1, 1, 3, 1, 3]


# ---- against the oracle -------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", SIDES)
def test_read_is_equation_27(n, size, channels, dtype):
    rng = np.random.default_rng(n)
    x, x_hat = rng.normal(size=(2, 2, channels, *size))
    raw = some_windows(2, seed=channels)
    expected = [
        np.concatenate([oracle.read(image[b], raw[b], n) for image in (x, x_hat)]) for b in range(2)
    ]
    images = [torch.tensor(image, dtype=dtype) for image in (x, x_hat)]
    close(attention.read(images, torch.tensor(raw, dtype=dtype), n), np.array(expected), dtype)
    alone = attention.read(images[:1], torch.tensor(raw, dtype=dtype), n)
    close(alone, np.array(expected)[:, :channels], dtype)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", SIDES)
def test_write_is_equation_29(n, size, channels, dtype):
    rng = np.random.default_rng(n)
    canvas, patch = rng.normal(size=(2, channels, *size)), rng.normal(size=(2, channels, n, n))
    raw = some_windows(2, seed=channels)
    expected = [canvas[b] + oracle.write(patch[b], raw[b], *size) for b in range(2)]
    operands = (torch.tensor(v, dtype=dtype) for v in (canvas, patch, raw))
    close(attention.write(*operands), np.array(expected), dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", SIDES)
def test_filterbanks_are_equations_19_to_26(n, size):
    height, width = size
    raw = some_windows(3, seed=n)
    w = attention.window(torch.tensor(raw), n, height, width)
    f_y, f_x = attention.filterbanks(w, n, height, width)
    for b in range(3):
        g_x, g_y, delta, sigma2, gamma = oracle.window(raw[b], n, height, width)
        assert torch.stack(w)[:, b].numpy() == pytest.approx([g_x, g_y, delta, sigma2, gamma])
        close(f_x[b], oracle.filters(g_x, delta, sigma2, n, width), torch.float64)
        close(f_y[b], oracle.filters(g_y, delta, sigma2, n, height), torch.float64)


def test_the_window_of_an_elongated_image_is_the_papers(dtype):
    """A fresh window spans the longer axis on both: up to 5 pixels off an image 2 pixels wide."""
    image = np.random.default_rng(0).normal(size=(1, 12, 2))
    raw = np.array([0, 0, 2.0, 0, 0])
    ours = attention.read(
        (torch.tensor(image[None], dtype=dtype),), torch.tensor(raw[None]).to(dtype), 4
    )
    close(ours[0], oracle.read(image, raw, 4), dtype)


# ---- gradients and extremes ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [(4, 3), (3, 5)])
@pytest.mark.parametrize("n", [2, 3])
def test_gradients_are_those_of_the_formulas(n, size):
    torch.manual_seed(n)
    raw = torch.tensor(some_windows(2, seed=1), requires_grad=True)
    x, x_hat = torch.randn(2, 2, 2, *size, dtype=torch.float64, requires_grad=True)
    patch = torch.randn(2, 2, n, n, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r, *x: attention.read(x, r, n), (raw, x, x_hat))
    assert torch.autograd.gradcheck(attention.write, (x, patch, raw))


def values_and_gradients(raw, size, n, dtype):
    torch.manual_seed(3)
    leaves = [
        torch.rand(1, 2, *size).to(dtype),
        torch.rand(1, 2, n, n).to(dtype),
        torch.tensor([raw]).to(dtype),
    ]
    image, patch, raw = (leaf.requires_grad_() for leaf in leaves)
    glimpse = attention.read((image, 0.5 * image), raw, n)
    canvas = attention.write(image, patch, raw)
    weights = torch.linspace(-1, 1, glimpse.numel() + canvas.numel()).to(dtype)
    (torch.cat((glimpse.flatten(), canvas.flatten())) * weights).sum().backward()
    return [glimpse, canvas, *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("size", [(6, 9), (28, 28)])
@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_windows_give_finite_values_and_gradients(name, size, dtype):
    for v in values_and_gradients(EXTREMES[name], size, 5, dtype):
        assert v.dtype == dtype
        assert v.isfinite().all()


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_windows_in_bfloat16_are_finite_too(name):
    """The kernels know no bfloat16 windows: the formulas serve, in the type of their arguments."""
    for v in values_and_gradients(EXTREMES[name], (6, 9), 5, torch.bfloat16):
        assert v.dtype == torch.bfloat16
        assert v.isfinite().all()


def test_bfloat16_operands_agree_with_float32_to_their_precision():
    torch.manual_seed(0)
    x, raw = torch.rand(3, 1, 9, 8), 0.3 * torch.randn(3, 5)
    patch = torch.randn(3, 1, 4, 4)
    glimpse, canvas = attention.read((x,), raw, 4), attention.write(x, patch, raw)
    x, patch, raw = x.bfloat16(), patch.bfloat16(), raw.bfloat16()
    torch.testing.assert_close(attention.read((x,), raw, 4).float(), glimpse, atol=0.1, rtol=0)
    torch.testing.assert_close(attention.write(x, patch, raw).float(), canvas, atol=0.15, rtol=0)


@pytest.mark.parametrize("size", [28, 100, 256])
def test_a_far_and_narrow_window_reads_the_border_and_has_nowhere_to_go(size, dtype):
    """The float32 kernels once read the whole row's average here, with gradients up to 1e9."""
    torch.manual_seed(0)
    image = torch.rand(1, 1, size, size, dtype=dtype)
    for g in (-40.0, -2.77, 2.9, 40.0):
        raw = torch.tensor([[g, -g, -50.0, -2.0, 0.3]], dtype=dtype, requires_grad=True)
        glimpse = attention.read((image,), raw, 5)
        corner = image[0, 0, -1, 0] if g < 0 else image[0, 0, 0, -1]
        close(glimpse, np.full((1, 1, 5, 5), np.exp(0.3) * corner.item()), dtype)
        (glimpse * torch.randn(5, 5, dtype=dtype)).sum().backward()
        assert raw.grad[0, :4].abs().max() < 1e-6
        assert raw.grad[0, 4] != 0


def test_no_image_moves_a_window_further_than_its_limit():
    """Whatever the batch, an image's own gradient is held; one that is short stays as it is."""
    own = torch.tensor([[3.0, 0, 0, 4, 0], [0, 0.3, 0, 0, 0.4], [0, 0, 0, 0, 0], [9, 9, 9, 9, 9]])

    def gradients(limit, rows):
        raw = torch.randn(len(own), 5)[rows].requires_grad_()
        held = attention.clip_gradient(raw, limit)
        assert torch.equal(held, raw)
        (held * own[rows]).sum(1).mean().backward()
        return raw.grad * len(raw)

    lengths = torch.tensor([2.5, 0.5, 0.0, 2.5])[:, None]
    expected = own / own.norm(dim=1, keepdim=True).clamp_min(1e-9) * lengths
    torch.testing.assert_close(gradients(2.5, slice(4)), expected)
    torch.testing.assert_close(gradients(2.5, slice(1)), expected[:1])
    torch.testing.assert_close(gradients(0.0, slice(4)), own)


@pytest.mark.parametrize("n", [0, 1])
def test_a_window_of_side_1_has_no_stride(n):
    raw, image = torch.zeros(1, 5), torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="side of at least 2"):
        attention.window(raw, n, 4, 4)
    with pytest.raises(ValueError, match="side of at least 2"):
        attention.read((image,), raw, n)
    with pytest.raises(ValueError, match="side of at least 2"):
        attention.write(image, image[..., :n, :n], raw)
