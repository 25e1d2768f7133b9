"""Keyed noise: the same key gives the same numbers, however the work is cut up."""

import numpy as np
import torch

from drawnet.nn import noise
from drawnet.nn.noise import Noise


def test_stream_visits_every_example_once_an_epoch():
    seen = torch.cat([noise.stream(3, start, 7, 10) for start in range(0, 70, 7)])
    for epoch in seen.view(7, 10):
        assert sorted(epoch.tolist()) == list(range(10))
    assert not torch.equal(seen[:10], seen[10:20])


def test_stream_does_not_depend_on_how_it_is_cut():
    whole = noise.stream(0, 5, 40, 9)
    parts = [noise.stream(0, 5 + k, 8, 9) for k in range(0, 40, 8)]
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
    whole = noise.normal_each(0, "sample", range(10), 4, 3)
    assert torch.equal(whole[6:8], noise.normal_each(0, "sample", range(6, 8), 4, 3))
    assert whole.flatten().unique().numel() == whole.numel()


def test_steps_of_one_draw_differ():
    """One noise tensor for all steps is a known mistake of ports."""
    eps = Noise(0, 0).normal("latents", 5, 2, 3, axis=1)
    assert not any(torch.equal(eps[s], eps[t]) for s in range(5) for t in range(s))


def test_splitmix_is_the_published_one():
    """The first outputs of seed 1234567, as published lists of test values have them."""
    drawn = noise._splitmix(np.array(1234567, np.uint64), np.arange(3, dtype=np.uint64))
    assert drawn.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_whole_numbers_of_an_image_are_its_own():
    limits = [5, 73, 1, 10_000]
    whole = noise.integers_each(range(1000), limits, "places", 3)
    assert whole.shape == (1000, 4) and whole.dtype == np.int64 and not whole[:, 2].any()
    some = noise.integers_each([7, 999, 7], limits, "places", 3)
    assert (some == whole[[7, 999, 7]]).all()
    assert (noise.integers_each(range(9), limits[:2], "places", 3) == whole[:9, :2]).all()
    for key in (("places", 4), ("other", 3)):
        assert (noise.integers_each(range(1000), limits, *key)[:, 3] != whole[:, 3]).mean() > 0.99
    far = noise.integers_each([2**40, 2**40 + 1], limits, "places", 3)
    assert far.shape == (2, 4) and (far >= 0).all() and (far < limits).all()


def test_whole_numbers_are_uniform_and_independent():
    """χ² of 35 degrees: above 80 once in 10⁵; so for single columns, pairs, and images in a row."""
    drawn = noise.integers_each(range(72_001), [36, 6, 6], "fair")
    pairs = [drawn[1:, 0], 6 * drawn[1:, 1] + drawn[1:, 2], 6 * drawn[1:, 1] + drawn[:-1, 1]]
    for column in pairs:
        counts = np.bincount(column, minlength=36)
        assert len(counts) == 36 and ((counts - 2000) ** 2 / 2000).sum() < 80
