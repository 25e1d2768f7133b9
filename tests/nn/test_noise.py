"""Whole numbers keyed by image: the published generator's, uniform and independent."""

import numpy as np

from drawnet.nn import noise


def test_splitmix_is_the_published_one():
    """The first outputs of seed 1234567, as published lists of test values have them."""
    drawn = noise._splitmix(np.array(1234567, np.uint64), np.arange(3, dtype=np.uint64))
    assert drawn.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_whole_numbers_are_uniform_and_independent():
    """χ² of 35 degrees: above 80 once in 10⁵; so for single columns, pairs, and images in a row."""
    drawn = noise.integers_each(range(72_001), [36, 6, 6], "fair")
    pairs = [drawn[1:, 0], 6 * drawn[1:, 1] + drawn[1:, 2], 6 * drawn[1:, 1] + drawn[:-1, 1]]
    for column in pairs:
        counts = np.bincount(column, minlength=36)
        assert len(counts) == 36 and ((counts - 2000) ** 2 / 2000).sum() < 80
