"""Numbers that the coder depends on are the same bits whatever the batch and the threads."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from conftest import small
from drawnet import models
from drawnet.compression import exact
from drawnet.compression.exact import Exact
from drawnet.errors import UserError
from drawnet.models import sequential

MODELS = [
    kind for kind in models.names() if issubclass(models.module(kind).Model, sequential.StepModel)
]
CASES = [(kind, "bernoulli") for kind in MODELS] + [
    ("draw", "logistic"), ("conv_draw", "logistic"), ("conv_draw", "mixture"), ("vae", "mixture"),
    ("conv_draw", "coupled"), ("draw, features", "bernoulli"),
]  # fmt: skip


def built(kind, likelihood="bernoulli", classes=0, channels=1):
    """A small model in float64, with weights that make every part of it count."""
    torch.manual_seed(0)
    kind, _, features = kind.partition(", ")
    settings = small(kind, likelihood=likelihood, classes=classes)
    if features:
        settings = replace(settings, features=3)
    model = models.build(settings, (channels, 8, 8)).double().eval()
    std = 0.05 if kind == "ladder_draw" else 0.1  # wide layers: more would be chaos
    for p in model.parameters():
        nn.init.normal_(p, std=std)
    return model


@torch.no_grad()
def numbers(model, x, eps):
    """What the coder sees of some images."""
    y, seen = x.new_zeros(len(x), 0), []
    state = model.observe(x, model.start(y))
    for noise in eps:
        q, state = model.infer(x, state)
        p = model.prior(state)
        state = model.advance(q.sample(noise), state)
        seen += [q.mu, q.log_sigma, *(p or ())]
    return [*seen, state.c, model.likelihood(state).mean]


@pytest.mark.parametrize(("kind", "likelihood"), CASES)
def test_an_image_is_the_same_bits_in_every_batch_and_with_every_number_of_threads(
    kind, likelihood
):
    model = built(kind, likelihood)
    x = torch.rand(9, 1, 8, 8, dtype=torch.float64).round()
    eps = torch.randn(model.steps, 9, *model.latents, dtype=torch.float64)
    plain = numbers(model, x, eps)
    with Exact(model):
        whole = numbers(model, x, eps)
        alone = [numbers(model, x[k : k + 1], eps[:, k : k + 1]) for k in range(9)]
        torch.set_num_threads(3)
        try:
            threaded = numbers(model, x, eps)
        finally:
            torch.set_num_threads(1)
    for formula, a, b, *parts in zip(plain, whole, threaded, *alone, strict=True):
        torch.testing.assert_close(a, formula, rtol=1e-4, atol=1e-4)
        assert torch.equal(a, b)
        assert torch.equal(a, torch.cat(parts))


def test_products_do_not_depend_on_the_order_of_their_sums():
    a, b = torch.randn(5, 777, dtype=torch.float64), torch.randn(777, 33, dtype=torch.float64)
    a[:, ::7] *= 1e-3
    mode, order = Exact(nn.Linear(1, 1)), torch.randperm(777)
    assert torch.equal(mode.product(a, b), mode.product(a[:, order], b[order]))
    assert not torch.equal(a @ b, a[:, order].clone() @ b[order])  # as they do otherwise
    torch.testing.assert_close(mode.product(a, b), a @ b, rtol=1e-4, atol=1e-4)


def test_partial_sums_are_exact():
    length = 1000
    bits = exact.operand_bits(length)
    k, scale = exact.to_integers(torch.randn(4, length, dtype=torch.float64), -1, bits)
    assert torch.equal(k, k.round()) and k.abs().max() <= 2**bits
    assert length * 2 ** (2 * bits) <= 2**53
    assert torch.equal(torch.frexp(scale).mantissa, torch.full_like(scale, 0.5))


@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh"])
def test_a_function_is_what_its_name_says(name):
    x = torch.linspace(-30, 30, 2001, dtype=torch.float64)
    torch.testing.assert_close(
        getattr(exact, name)(x), getattr(torch, name)(x), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("n", [1, 2, 3, 7, 28])
def test_sums_are_sums(n):
    x = torch.randn(3, n, 4, dtype=torch.float64)
    torch.testing.assert_close(exact.tree_sum(x, 1), x.sum(1, keepdim=True))
    torch.testing.assert_close(exact.softmax(x, 1), x.softmax(1), rtol=1e-8, atol=1e-9)


def test_an_operation_without_an_exact_form_is_refused():
    x = torch.ones(2, dtype=torch.float64)
    with Exact(nn.Linear(1, 1)), pytest.raises(UserError, match="erf has no exact form"):
        torch.erf(x)
