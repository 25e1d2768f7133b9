"""Progressive coding: what the first steps tell, and what they cost."""

import math

import pytest
import torch

from drawnet.evaluation.progressive import Progress, curve, progressive
from drawnet.models.latent import latent_noise
from drawnet.models.sequential import bound
from reference import images, installed, lively

MODELS = {
    "draw": {"steps": 3, "units": 8, "latents": 3, "read": 2, "write": 3, "prior": "standard"},
    "draw learned": {"steps": 3, "units": 8, "latents": 3, "read": 2, "write": 3, "prior": "learned"},
    "conv_draw": {"steps": 3, "units": 4, "latents": 2, "features": 4, "classes": 3},
    "vae": {"latents": 4, "units": 12},
}  # fmt: skip


@pytest.fixture(params=MODELS)
def model(request):
    return lively(request.param.split()[0], (1, 8, 8), std=0.2, **MODELS[request.param])


def labelled(model, n=4):
    return torch.arange(n) % model.classes if model.classes else None


def test_all_steps_are_the_reconstruction_at_the_whole_rate(model):
    x, y = images(model), labelled(model)
    found = progressive(model, x, y, seed=5)
    eps = latent_noise(model, 5, "redraw", range(4))
    rate = bound(model, x, eps, model.check_labels(y, 4)).rate.sum(0) / math.log(2)
    torch.testing.assert_close(found.bits[-1], rate.detach())
    whole = model.reconstruct(x, y, seed=5).as_subclass(torch.Tensor)
    torch.testing.assert_close(found.images[-1], whole)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_steps_are_a_sample_at_no_rate(model, temperature):
    x, y = images(model), labelled(model)
    found = progressive(model, x, y, seed=5, temperature=temperature)
    assert (found.bits[0] == 0).all()
    drawn = model.sample(4, labels=() if y is None else y.tolist(), seed=5, temperature=temperature)
    torch.testing.assert_close(found.images[0], drawn.as_subclass(torch.Tensor))


def test_some_steps_read_and_the_rest_drawn(model):
    """Written out with the step contract: q up to t, then p."""
    x, y = images(model), labelled(model)
    found = progressive(model, x, y, seed=5, temperature=0.7)
    eps, later = (latent_noise(model, 5, purpose, range(4)) for purpose in ("redraw", "sample"))
    for t in range(model.steps + 1):
        state, nats = model.start(model.check_labels(y, 4)), torch.zeros(4).double()
        for s in range(model.steps):
            if s < t:
                q, state = model.infer(x, state)
                nats += q.kl(model.prior(state))
                z = q.sample(eps[s])
            else:
                p = model.prior(state)
                z = 0.7 * later[s] if p is None else p.sample(0.7 * later[s])
            state = model.advance(z, state)
        torch.testing.assert_close(found.bits[t], (nats / math.log(2)).detach())
        expected = model.likelihood(state).mean.detach().float().clamp(0, 1)
        torch.testing.assert_close(found.images[t], expected)
    assert (found.bits.diff(dim=0) >= 0).all() and (found.bits[-1] > 0).all()


def test_an_image_does_not_depend_on_the_batch(model):
    x, y = images(model, 66), labelled(model, 66)
    whole = progressive(model, x, y, temperature=1.0)
    some = progressive(model, x[:3], None if y is None else y[:3], temperature=1.0)
    for part, all_ in zip(some, whole, strict=True):
        torch.testing.assert_close(part, all_[:, :3])
    assert not torch.equal(whole.images[0, 64], whole.images[0, 0])  # noise of its own


def test_kernels_give_the_same():
    model = lively("draw", (1, 8, 8), torch.float32, 0.2, **MODELS["draw"])
    x = images(model)
    plain = progressive(model, x)
    for part, expected in zip(progressive(installed(model), x), plain, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-4)


def test_the_curve_has_means_and_standard_errors():
    x = torch.zeros(2, 1, 1, 2)
    values = [[[0.5, 0.5], [0.5, 0.5]], [[0.1, 0.1], [0.3, 0.3]]]
    shown = torch.tensor(values, dtype=torch.float64).view(2, 2, 1, 1, 2)
    none, some = curve(x, Progress(torch.tensor([[0.0, 0.0], [10.0, 14.0]]), shown))
    assert (none.bits.mean, some.bits.mean, some.bits.stderr) == (0, 12, pytest.approx(2))
    assert none.mse.mean == pytest.approx(0.25) and none.mse.stderr == 0
    assert some.mse.mean == pytest.approx(0.05) and some.mse.stderr == pytest.approx(0.04)
    assert some.psnr.mean == pytest.approx(-10 * math.log10(0.05))
    ahead = -10 * math.log10(0.05 - 1e-6 * 0.04)
    assert some.psnr.stderr == pytest.approx((ahead - some.psnr.mean) / 1e-6, rel=1e-4)
    (alone,) = curve(x[:1], Progress(torch.zeros(1, 1), shown[:1, :1]))
    assert alone.psnr.stderr is None
    (same,) = curve(x, Progress(torch.zeros(1, 2), x[None].double()))
    assert same.psnr.mean == math.inf
