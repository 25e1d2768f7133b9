"""The weights that come with drawnet: each has its card, and still gives what the card says."""

import json
from dataclasses import asdict

import pytest

import records
from drawnet import data, weights
from drawnet.data.pipeline import View
from drawnet.drawing import sample
from drawnet.evaluation.likelihood import evaluate
from drawnet.models.base import LikelihoodModel
from drawnet.training import checkpoint
from drawnet.training.config import from_json

NAMES = sorted(weights.bundled())
LARGEST = 5_000_000
"""Bytes that the file of a model may have."""


def card(name):
    return json.loads(weights.bundled()[name].with_suffix(".json").read_text())


def test_there_are_weights():
    assert {"mnist", "mnist_conditional"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_has_its_card(name):
    model, known = checkpoint.load_model(weights.bundled()[name]), card(name)
    assert weights.bundled()[name].stat().st_size < LARGEST
    assert from_json(known["run"]) == model.run
    assert known["examples"] == model.header.examples
    assert known["data"]["licence"] and known["made"]["commit"] and known["made"]["processor"]
    assert known["evaluations"] and known["curve"]


@pytest.mark.parametrize("name", NAMES)
def test_weights_give_what_their_card_says(name):
    """On embedded digits, which need no download."""
    check = card(name)["check"]
    if check is None:
        pytest.skip(f"{name} is not for images like the embedded digits")
    again = asdict(records.check(checkpoint.load_model(weights.bundled()[name]).network))
    assert again["nats"] == pytest.approx(check["nats"], abs=0.05)
    assert {k: v for k, v in again.items() if k != "nats"} == {
        k: v for k, v in check.items() if k != "nats"
    }


@pytest.mark.parametrize("name", NAMES)
def test_weights_give_what_their_card_says_on_real_images(name, real_data):
    """On some of the test images that the card's bound is over: within their standard error."""
    model, known = checkpoint.load_model(weights.bundled()[name]), card(name)
    if not isinstance(model.network, LikelihoodModel):
        pytest.skip(f"{name} has no bound")
    images = model.run.data.load(real_data)
    assert images.checksum == known["data"]["checksum"]
    whole = next(e for e in known["evaluations"] if e.get("iw_nats") is None)
    some = data.subsample_indices(len(images.splits["test"]), 200)
    e = evaluate(model.network, View(images, "test", model.run.data.binarise, some))
    assert abs(e.elbo_nats - whole["elbo_nats"]) < 4 * e.elbo_stderr


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_loaded_by_name_and_draw(name):
    if not isinstance(checkpoint.load_model(weights.bundled()[name]).network, LikelihoodModel):
        pytest.skip(f"{name} draws nothing")
    images = sample.sample(sample.load(name), n=4, seed=0)
    assert images.shape[0] == 4 and 0.02 < images.mean() < 0.6
