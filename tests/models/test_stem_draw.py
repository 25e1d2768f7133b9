"""DRAW between convolutions: its equations once more by PyTorch's own layers, for any image."""

import pytest

from reference import LIKELIHOODS, assert_equations, convolved, lively, upconvolved


def glimpse(model, both, h_dec):
    return convolved(model.read, both)


def patch(model, h_dec):
    return upconvolved(model.write, h_dec, *model.shape[1:])


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 12), (2, 7, 5), (1, 1, 3)])
def test_the_bound_is_that_of_the_equations(shape, likelihood, classes):
    sizes = {"steps": 3, "units": 6, "latents": 4, "features": 5, "components": 2}
    model = lively("stem_draw", shape, likelihood=likelihood, classes=classes, **sizes)
    assert_equations(model, glimpse, patch)
