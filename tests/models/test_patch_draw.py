"""DRAW with convolutions in its windows: DRAW's equations around them, and windows that start alive."""

import pytest
import torch
import torch.nn.functional as F

import oracle
from drawnet.models.draw import Draw, DrawConfig
from drawnet.models.patch_draw import PatchDraw, PatchDrawConfig
from drawnet.models.sequential import generate
from drawnet.nn import attention
from reference import LIKELIHOODS, assert_equations, convolved, lively, noise, upconvolved

SIZES = {"steps": 3, "units": 6, "latents": 4, "features": 5, "read": 5, "write": 4}


def glimpse(model, both, h_dec):
    """The oracle's window, and the convolutions behind it."""
    raw = F.linear(h_dec, model.read_head.weight, model.read_head.bias).numpy()
    pairs = zip(both.numpy(), raw, strict=True)
    r = [torch.from_numpy(oracle.read(image, p, model.config.read)) for image, p in pairs]
    return convolved(model.read_net, torch.stack(r))


def patch(model, h_dec):
    raw = F.linear(h_dec, model.write_head.weight, model.write_head.bias).numpy()
    w = upconvolved(model.write_net, h_dec, *2 * [model.config.write]).numpy()
    pairs = zip(w, raw, strict=True)
    return torch.stack([torch.from_numpy(oracle.write(v, p, *model.shape[1:])) for v, p in pairs])


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 5, 7)])
def test_the_bound_is_that_of_the_equations(shape, likelihood, classes):
    sizes = SIZES | {"likelihood": likelihood, "classes": classes, "components": 2}
    assert_equations(lively("patch_draw", shape, **sizes), glimpse, patch)


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
    states = generate(model, noise(model))
    places = torch.stack([model.windows(s)["write"][:, :2] for s in states])
    assert places.std(0).mean() > 0.05  # of half a side
