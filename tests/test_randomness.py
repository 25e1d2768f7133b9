"""Keyed noise: the same key gives the same numbers, however the work is cut up."""

import torch

from drawnet import randomness
from drawnet.randomness import Noise


def test_stream_visits_every_example_once_an_epoch():
    seen = torch.cat([randomness.stream(3, start, 7, 10) for start in range(0, 70, 7)])
    for epoch in seen.view(7, 10):
        assert sorted(epoch.tolist()) == list(range(10))
    assert not torch.equal(seen[:10], seen[10:20])


def test_stream_does_not_depend_on_how_it_is_cut():
    whole = randomness.stream(0, 5, 40, 9)
    parts = [randomness.stream(0, 5 + k, 8, 9) for k in range(0, 40, 8)]
    assert torch.equal(whole, torch.cat(parts))


def test_ranks_share_one_noise():
    whole = Noise(1, 64).normal("latents", 3, 8, 5, axis=1)
    parts = [Noise(1, 64, rank, 2).normal("latents", 3, 4, 5, axis=1) for rank in range(2)]
    assert torch.equal(whole, torch.cat(parts, 1))
    uniform = [Noise(1, 64, rank, 4).uniform("binarise", 2, 6) for rank in range(4)]
    assert torch.equal(Noise(1, 64).uniform("binarise", 8, 6), torch.cat(uniform))


def test_every_part_of_the_key_matters():
    base = Noise(1, 64).normal("latents", 4)
    others = [Noise(2, 64).normal("latents", 4), Noise(1, 65).normal("latents", 4)]
    others.append(Noise(1, 64).normal("something else", 4))
    assert not any(torch.equal(base, other) for other in others)


def test_noise_of_an_image_is_its_own():
    whole = randomness.normal_each(0, "sample", range(10), 4, 3)
    assert torch.equal(whole[6:8], randomness.normal_each(0, "sample", range(6, 8), 4, 3))
    assert whole.flatten().unique().numel() == whole.numel()


def test_steps_of_one_draw_differ():
    """One noise tensor for all steps is a known mistake of ports."""
    eps = Noise(0, 0).normal("latents", 5, 2, 3, axis=1)
    assert not any(torch.equal(eps[s], eps[t]) for s in range(5) for t in range(s))
