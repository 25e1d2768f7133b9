"""What one does with a model in Python: encode, decode, sample, complete, interpolate, log p(x)."""

import copy
import io

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import small
from drawnet import models
from drawnet.drawing import sample
from drawnet.errors import UserError
from drawnet.evaluation.likelihood import importance_bound
from drawnet.models import sequential
from drawnet.models.display import as_images
from drawnet.models.latent import latent_noise
from drawnet.nn.distributions import Gaussian
from reference import SHAPE, STEPPING, drawing, pictures


@pytest.mark.parametrize("kind", STEPPING)
def test_decoding_an_encoding_is_the_reconstruction(kind):
    model, x = drawing(kind), pictures(5)
    latents = model.encode(x, seed=3)
    assert {part.shape for part in latents} == {(model.steps, 5, *model.latents)}
    *_, state = sequential.reconstruct(model, x, latent_noise(model, 3, "redraw", range(5)))
    drawn = model.likelihood(state).mean.clamp(0, 1)
    torch.testing.assert_close(model.decode(latents), drawn, atol=1e-5, rtol=0)
    assert torch.equal(model.decode(latents.z), model.decode(latents))
    assert torch.equal(model.reconstruct(x, seed=3), model.decode(latents))
    assert not torch.allclose(model.reconstruct(1 - x, seed=3), drawn, atol=1e-3)
    torch.testing.assert_close(sample.redraw_trajectory(model, x, seed=3).images, drawn)


@pytest.mark.parametrize("kind", STEPPING)
def test_an_encoding_is_the_posterior_and_a_draw_of_it(kind):
    model, x = drawing(kind), pictures(4)
    mu, log_sigma, z = model.encode(x, seed=2)
    eps = latent_noise(model, 2, "redraw", range(4))
    torch.testing.assert_close(mu + log_sigma.exp() * eps, z)
    still = model.encode(x, temperature=0)
    assert torch.equal(still.z, still.mu)
    assert torch.equal(mu[0], still.mu[0]) and not torch.equal(z, model.encode(x, seed=4).z)


def test_the_posterior_gives_the_rates_of_the_bound():
    model, x = drawing(), pictures(4)
    mu, log_sigma, _ = model.encode(x, seed=2)
    rate = sequential.bound(model, x, latent_noise(model, 2, "redraw", range(4))).rate
    ours = torch.stack([Gaussian(*q).kl() for q in zip(mu, log_sigma, strict=True)])
    torch.testing.assert_close(ours, rate)


def test_batches_change_nothing():
    model, x = drawing().double(), pictures(70)
    many, few = model.encode(x), model.encode(x[:3])
    torch.testing.assert_close(many.z[:, :3], few.z)
    torch.testing.assert_close(model.decode(many)[:3], model.decode(few))
    torch.testing.assert_close(model.sample(70)[:3], model.sample(3))
    assert torch.equal(model.sample(70), sample.sample_trajectory(model, 70).images)


def test_samples_heed_labels_and_temperature():
    model = drawing(classes=3).double()
    every, ones = model.sample(3, seed=1), model.sample(3, seed=1, labels=[1])
    assert torch.allclose(every[1], ones[1], atol=1e-6) and not torch.allclose(every[0], ones[0])
    cold = model.sample(2, labels=[0], temperature=0)
    torch.testing.assert_close(cold[0], cold[1])


def test_labels_are_integers_or_their_encoding():
    model, x = drawing(classes=3), pictures(3)
    y = torch.tensor([2, 0, 1])
    one = model.encode(x, y).z
    for same in ([2, 0, 1], y.numpy(), torch.eye(3)[y]):
        assert torch.equal(model.encode(x, same).z, one)
    assert not torch.equal(model.encode(x, [0, 0, 0]).z, one)
    latents = model.encode(x, y)
    assert not torch.allclose(model.decode(latents, y), model.decode(latents, [1, 1, 1]))


@pytest.mark.parametrize("kind", STEPPING)
def test_a_completion_keeps_the_known_pixels_and_ignores_the_others(kind):
    model, x = drawing(kind), pictures(1)[0]
    known = torch.zeros(8, 8, dtype=torch.bool)
    known[:4] = True
    found = model.complete(x, known, 3, rounds=2)
    assert found.shape == (3, *SHAPE) and torch.equal(found[:, :, :4], x[:, :4].expand(3, 1, 4, 8))
    blank = x.clone()
    blank[:, 4:] = float("nan")
    assert torch.equal(model.complete(blank, known.numpy(), 3, rounds=2), found)


@pytest.mark.parametrize("kind", STEPPING)
def test_an_interpolation_has_the_redrawn_images_at_its_ends(kind):
    model, pair = drawing(kind), pictures(2)
    way = model.interpolate(pair[0], pair[1].numpy(), 5, seed=7)
    eps = latent_noise(model, 7, "morph", range(1)).repeat(1, 2, *[1] * len(model.latents))
    *_, state = sequential.reconstruct(model, pair, eps)
    ends = model.likelihood(state).mean.clamp(0, 1)
    torch.testing.assert_close(way[[0, -1]], ends, atol=1e-4, rtol=0)
    assert way.shape == (5, *SHAPE)


def test_log_probabilities_are_importance_weighted_bounds():
    model, x = drawing(), pictures(6)
    one, many = model.log_prob(x), model.log_prob(x, importance_samples=200)
    assert one.shape == many.shape == (6,) and (many.mean() > one.mean())
    expected = -importance_bound(model, x, torch.zeros(6, 0), range(6), 200, 0)
    assert torch.equal(many, expected)
    darn = models.build(small("darn"), SHAPE)
    assert darn.log_prob(x, importance_samples=2).isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (torch.zeros(2, 8, 8), r"images are \(2, 8, 8\), the model takes \(B, 1, 8, 8\)"),
        (torch.zeros(0, *SHAPE), "images are"),
        (np.zeros((2, *SHAPE), np.uint8), "in \\[0, 1\\] \\(0..255: / 255\\)"),
        (torch.full((2, *SHAPE), 255.0), "not from 255 to 255"),
        (torch.full((2, *SHAPE), float("nan")), "not from nan to nan"),
    ],
)
def test_images_that_a_model_does_not_take_are_refused(wrong, why):
    model = drawing()
    for method in (model.encode, model.reconstruct, model.log_prob):
        with pytest.raises(UserError, match=why):
            method(wrong)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda m, x: m.encode(x), "the model is conditional: give y"),
        (lambda m, x: m.encode(x, [0, 1]), r"labels are \(2,\): give 4 integers"),
        (lambda m, x: m.encode(x, [0, 1, 2, 3]), "label 3 is not one of the model's classes, 0 to 2"),
        (lambda m, x: m.encode(x, [0.0, 1, 2, 2]), "give 4 integers"),
        (lambda m, x: m.decode(torch.zeros(2, 4, 5), [0] * 4), r"latents are \(2, 4, 5\), not \(3, B"),
        (lambda m, x: m.sample(0), "n is 0: give an integer of at least 1"),
        (lambda m, x: m.sample(2, labels=[3]), "^label 3 is not one of the model's classes"),
        (lambda m, x: m.complete(x[0], torch.ones(4, 4)), r"known is \(4, 4\)"),
        (lambda m, x: m.interpolate(x[0], x[1]), r"labels=\[first, last\]"),
        (lambda m, x: m.interpolate(x[0], x[1], 1, labels=[0]), "at least 2"),
        (lambda m, x: m.log_prob(x / 2, [0] * 4), "binarise them first"),
        (lambda m, x: m.log_prob(x, [0] * 4, importance_samples=0), "importance_samples is 0"),
    ],
)  # fmt: skip
def test_what_a_model_does_not_do_is_said(call, why):
    with pytest.raises(UserError, match=why):
        call(drawing(classes=3), pictures(4))


def test_a_cost_on_intensities_is_no_likelihood():
    with pytest.raises(UserError, match="not a likelihood"):
        drawing(likelihood="cross_entropy").log_prob(pictures(2))
    with pytest.raises(UserError, match="not conditional: leave out y"):
        drawing().encode(pictures(2), [0, 1])


# ---- in notebooks -------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "size"), [((5, 1, 8, 8), (3, 2)), ((4, 3, 200, 6), (2, 2))])
def test_images_are_tensors_that_a_notebook_shows(shape, size):
    images = as_images(torch.rand(shape))
    picture = Image.open(io.BytesIO(images._repr_png_()))
    scale = max(1, 112 // max(shape[2:]))
    wanted = [k * (side * scale + 2) - 2 for k, side in zip(size, shape[:1:-1], strict=True)]
    assert [*picture.size] == wanted and picture.mode == ("L" if shape[1] == 1 else "RGB")
    pixels = np.asarray(picture)
    last = (images[-1] * 255).round().byte().numpy()
    row, column = divmod(len(images) - 1, size[0])
    top, left = (k * (side * scale + 2) for k, side in zip((row, column), shape[2:], strict=True))
    shown = pixels[top : top + shape[2] * scale : scale, left : left + shape[3] * scale : scale]
    assert np.array_equal(shown, last[0] if shape[1] == 1 else last.transpose(1, 2, 0))


def test_what_is_computed_from_them_is_plain(tmp_path):
    images = drawing().sample(6)
    assert isinstance(images, torch.Tensor) and images._repr_png_()
    assert images[:2]._repr_png_() and images[0]._repr_png_() is None
    for plain in (
        images + 1,
        images.mean(0),
        torch.cat([images, images]),
        images.to(torch.float64),
    ):
        assert type(plain) is torch.Tensor
    assert images.numpy().shape == (6, *SHAPE)
    assert torch.equal(copy.deepcopy(images), images) and copy.deepcopy(images)._repr_png_()
    torch.save(images, tmp_path / "x.pt")
    assert type(torch.load(tmp_path / "x.pt", weights_only=True)) is torch.Tensor
    with torch.no_grad():
        assert torch.equal(drawing().encode(images.round()).z, drawing().encode(images.round()).z)
