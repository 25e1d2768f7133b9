"""Transformations whose result is known: none, whole shifts, quarter turns, doubling, colours."""

import pytest
import torch

from drawnet.data._transformations import SPREAD, coloured, drawn, transformed

NAMES = list(SPREAD)


@pytest.fixture
def chairs():
    noise = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 16, 16, generator=noise), torch.rand(
        2, 1, 16, 16, generator=noise
    ).round()


def parameters(**told):
    row = torch.zeros(2, len(SPREAD))
    for name, value in told.items():
        row[:, NAMES.index(name)] = value
    return row


def close(one, two):
    assert torch.allclose(one, two, atol=1e-5)


def test_nothing(chairs):
    images, masks = transformed(*chairs, parameters())
    close(images, chairs[0])
    close(masks, chairs[1])


def test_whole_shifts(chairs):
    images, masks = transformed(*chairs, parameters(right=3 / 16, down=-2 / 16))
    close(images[:, :, :-2, 3:], chairs[0][:, :, 2:, :-3])
    close(masks[:, :, :-2, 3:], chairs[1][:, :, 2:, :-3])
    assert (images[:, :, -2:] == 1).all() and (images[..., :3] == 1).all()
    assert (masks[:, :, -2:] == 0).all() and (masks[..., :3] == 0).all()


def test_a_quarter_turn(chairs):
    for turned, whole in zip(
        transformed(*chairs, parameters(rotation=torch.pi / 2)), chairs, strict=True
    ):
        close(turned, torch.rot90(whole, 1, (2, 3)))


def test_zoom_and_stretch():
    images, masks = torch.ones(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    masks[..., 12:20, 12:20] = 1
    p = parameters(zoom=torch.tensor(2.0).log())[:1]
    close(
        transformed(images, masks, p)[1].round().sum((2, 3)),
        torch.full((1, 1), 256.0),
    )
    p = parameters(stretch=torch.tensor(2.0).log())[:1]
    wide = transformed(images, masks, p)[1].round()[0, 0]
    assert (wide.any(0).sum(), wide.any(1).sum()) == (16, 8)


def test_a_shift_comes_after_the_turn(chairs):
    both = transformed(*chairs, parameters(rotation=torch.pi / 2, right=4 / 16))[0]
    close(both[..., 4:], torch.rot90(chairs[0], 1, (2, 3))[..., :-4])


def test_only_the_chair_changes_its_colour(chairs):
    images, _ = transformed(*chairs, parameters(hue=0.4, saturation=0.3, brightness=-0.5))
    inside = chairs[1].expand_as(images) == 1
    close(images[~inside], chairs[0][~inside])
    assert (images - chairs[0])[inside].abs().mean() > 0.05


def test_colours():
    red = torch.tensor([0.5, 0.2, 0.2]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    third = coloured(red, parameters(hue=2 * torch.pi / 3))[0, :, 0, 0]
    close(third, torch.tensor([0.2, 0.5, 0.2]))
    close(coloured(red, parameters(saturation=-50.0)), torch.full((2, 3, 4, 4), 0.3))
    close(coloured(red, parameters(brightness=torch.tensor(1.5).log())), red * 1.5)
    twice = coloured(red, parameters(contrast=torch.tensor(2.0).log()))[0, :, 0, 0]
    close(twice, torch.tensor([0.5, 0.0, 0.0]))
    grey = torch.full((2, 1, 4, 4), 0.3)
    close(coloured(grey, parameters(hue=1.0, saturation=1.0)), grey)


def test_drawn_parameters_keep_to_the_spread():
    spread = torch.tensor(list(SPREAD.values()))
    close(drawn(torch.ones(1, 9)), spread[None])
    close(drawn(torch.zeros(1, 9)), -spread[None])
    close(drawn(torch.full((1, 9), 0.5)), torch.zeros(1, 9))


def test_gradients_reach_the_parameters(chairs):
    p = (0.1 * torch.ones(2, 9)).requires_grad_()
    images, masks = transformed(*chairs, p)
    (images.square().sum() + masks.sum()).backward()
    assert p.grad.isfinite().all() and (p.grad != 0).all()


def test_shapes_are_checked(chairs):
    images, masks = chairs
    for wrong in (
        (images[..., :8], masks, parameters()),
        (images, masks[:1], parameters()),
        (images, masks, parameters()[:, :8]),
    ):
        with pytest.raises(ValueError, match="are not"):
            transformed(*wrong)
