"""The table over runs: every figure is the one its own module gives, every dash has its reason."""

import json
from dataclasses import replace

import pytest
import torch

from drawnet import models
from drawnet.data import Dataset
from drawnet.data.config import Data
from drawnet.data.pipeline import View
from drawnet.drawing import sample
from drawnet.errors import UserError
from drawnet.evaluation import classifier, frechet, parzen
from drawnet.evaluation.compare import Plan, Real, page, rows, values
from drawnet.evaluation.likelihood import evaluate, measure
from drawnet.models.darn import DARNConfig
from drawnet.models.draw import DrawConfig
from drawnet.models.gan import GANConfig
from drawnet.models.glimpse import GlimpseConfig
from drawnet.training import checkpoint
from drawnet.training.config import Run

DRAW = DrawConfig(steps=3, units=12, latents=4, read=2, write=3, classes=3)
KINDS = {
    "draw": DRAW,
    "cost": replace(DRAW, likelihood="cross_entropy", classes=0),
    "darn": DARNConfig(hidden=4),
    "exact": DARNConfig(hidden=0),
    "gan": GANConfig(noise=5, generator=16, discriminator=6, pieces=3),
    "reader": GlimpseConfig(glimpses=2, units=8, read=2, classes=3),
}
PLAN = Plan(samples=20, images=11, importance_samples=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of every kind, untrained, in a file of its own."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in KINDS.items():
        torch.manual_seed(0)
        network = models.build(config, (1, 8, 8))
        run = Run(name, config, Data("blobs"))
        checkpoint.save_model(folder / f"{name}.safetensors", network, run, {"seconds": 90.0})
    return folder


@pytest.fixture
def compared(folder, tiny_data, monkeypatch, tmp_path):
    """Rows of some of the models, over the tiny data; the cache is the test's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fitted, real = [], classifier.fit

    def fit(*arguments, **settings):
        fitted.append(1)
        return real(*arguments, **settings | {"epochs": 1})

    monkeypatch.setattr(classifier, "fit", fit)

    def go(*names, plan=PLAN, data=tiny_data, given=None):
        paths = [folder / f"{name}.safetensors" for name in names]
        return rows(paths, lambda run, then: data, plan, given)

    go.fitted = fitted
    return go


def test_every_figure_is_what_its_module_says(compared, folder, tiny_data, tmp_path):
    (row,) = compared("draw")
    f = row.figures
    assert (row.model, row.data) == ("draw", "blobs")
    network = checkpoint.load_model(folder / "draw.safetensors").network
    test = torch.from_numpy(tiny_data.splits["test"].pixels).float()
    e = evaluate(network, View(tiny_data, "test"), importance_samples=3)
    assert f["bound"].value == e.elbo_nats and f["bound"].stderr == e.elbo_stderr
    assert f["importance"].value == e.iw_nats
    samples = sample.sample(network, 20)
    valid = torch.from_numpy(tiny_data.splits["valid"].pixels).float()
    p = parzen.estimate(samples, valid, test)
    assert f["parzen"].value == pytest.approx(p.nats, rel=1e-5)
    assert f"{p.sigma:.4f}" in f["parzen"].why
    (kept,) = (tmp_path / "drawnet" / "classifiers").iterdir()
    judge = classifier.load(kept)[0]
    d = frechet.distance(*(frechet.moments(judge.features(x)) for x in (samples, test)))
    assert f["frechet"].value == pytest.approx(d, rel=1e-4)
    train = torch.from_numpy(tiny_data.splits["train"].pixels[::3]).float()
    d = frechet.distance(*(frechet.moments(judge.features(x)) for x in (train, test)))
    assert f["frechet"].why == f"training images: {d:.4f}"
    sure = judge(samples).softmax(1).max(1).values >= 0.9
    assert f["read"].value == pytest.approx(sure.float().mean().item())
    wrong = (judge.classify(samples) != torch.arange(20) % 3).float().mean().item()
    assert f["error"].value == pytest.approx(wrong)
    assert f["parameters"].value == sum(p.numel() for p in network.parameters())
    assert f["minutes"].value == 1.5 and f["speed"].value > 0


def test_a_difference_is_paired_image_by_image(compared, folder, tiny_data):
    gan, first, other, cost = compared("gan", "draw", "darn", "cost")
    nats = []
    for name in ("draw", "darn"):
        network = checkpoint.load_model(folder / f"{name}.safetensors").network
        nats.append(measure(network, View(tiny_data, "test"))["nats"])
    difference = nats[1] - nats[0]
    figure = other.figures["less"]
    assert figure.value == pytest.approx(difference.mean().item())
    assert figure.stderr == pytest.approx((difference.std() / len(difference) ** 0.5).item())
    assert figure.text == f"{figure.value:+.2f} ± {figure.stderr:.2f}"
    assert "compared with it" in first.figures["less"].why
    assert "no density" in gan.figures["less"].why
    assert "not a likelihood" in cost.figures["less"].why


def test_no_difference_between_other_images(folder, tiny_data, tmp_path):
    fewer = {k: replace(v, pixels=1 - v.pixels) for k, v in tiny_data.splits.items()}
    sets = iter([tiny_data, replace(tiny_data, splits=fewer)])
    paths = [folder / "draw.safetensors", folder / "darn.safetensors"]
    _, other = rows(paths, lambda *_: next(sets), PLAN, given_classifier(tmp_path))
    assert other.figures["bound"].value is not None
    assert "not those of" in other.figures["less"].why and "draw" in other.figures["less"].why


def test_a_dash_has_its_reason(compared):
    found = dict(zip(KINDS, compared(*KINDS), strict=True))
    assert len(compared.fitted) == 1  # one classifier serves all
    why = {
        ("cost", "bound"): "not a likelihood", ("gan", "bound"): "density",
        ("gan", "importance"): "density", ("exact", "importance"): "exact",
        ("darn", "error"): "no labels", ("reader", "parzen"): "cannot generate images",
        ("reader", "speed"): "cannot generate images",
    }  # fmt: skip
    for (name, column), reason in why.items():
        figure = found[name].figures[column]
        assert figure.value is None and reason in figure.why
    text = page(list(found.values()), PLAN)
    assert "K = 3" in text and "≤" in text
    lines = text.splitlines()
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    exact = next(line for line in lines if "exact.safetensors" in line)
    assert "≤" not in exact
    for k in range(1, 6):
        assert f"— ({k})" in text and f"- ({k}) " in text
    assert json.loads(json.dumps(values(list(found.values()), PLAN)))["rows"][4]["model"] == "gan"


def test_no_k_no_column(compared):
    plan = replace(PLAN, importance_samples=None)
    text = page(compared("gan", plan=plan), plan)
    assert "K =" not in text


def test_without_labels_there_is_no_classifier(compared, tiny_data):
    bare = {k: replace(v, labels=None) for k, v in tiny_data.splits.items()}
    (row,) = compared("gan", data=replace(tiny_data, splits=bare))
    assert row.figures["frechet"].value is None and "labelled" in row.figures["frechet"].why
    assert row.figures["parzen"].value is not None


def test_a_classifier_may_be_given(compared, tmp_path):
    for name, shape in (("fits", (1, 8, 8)), ("not", (1, 9, 9))):
        network = classifier.ReferenceClassifier(classifier.ClassifierConfig(shape, 3))
        classifier.save(tmp_path / f"{name}.safetensors", network, {})
    (row,) = compared("draw", given=tmp_path / "fits.safetensors")
    assert row.figures["frechet"].value is not None and not compared.fitted
    (row,) = compared("draw", given=tmp_path / "not.safetensors")
    assert "(1, 9, 9)" in row.figures["frechet"].why
    with pytest.raises(UserError, match="not there"):
        compared("draw", given=tmp_path / "none.safetensors")


def test_binary_digits_are_held_against_their_grey_levels(folder, tiny_data, monkeypatch, tmp_path):
    run = Run("x", KINDS["gan"], Data("binarized_mnist"))
    path = tmp_path / "gan.safetensors"
    checkpoint.save_model(path, models.build(run.model, (1, 8, 8)), run, {})
    opened = []

    def grey_or_not(asked: Run, then) -> Dataset:
        opened.append(asked.data.name)
        return tiny_data

    (row,) = rows([path], grey_or_not, PLAN, given_classifier(tmp_path))
    assert opened == ["binarized_mnist", "mnist"]
    assert row.figures["minutes"].value is None and "not in its file" in row.figures["minutes"].why

    def absent(asked: Run, then) -> Dataset:
        if asked.data.name == "mnist":
            raise UserError("no such files")
        return tiny_data

    (row,) = rows([path], absent, PLAN)
    assert all(row.figures[k].why == "no such files" for k in ("parzen", "frechet", "speed"))


def given_classifier(folder):
    network = classifier.ReferenceClassifier(classifier.ClassifierConfig((1, 8, 8), 3))
    classifier.save(folder / "judge.safetensors", network, {})
    return folder / "judge.safetensors"


def test_the_floor_is_below_noise(tiny_data):
    torch.manual_seed(0)
    judge = classifier.ReferenceClassifier(classifier.ClassifierConfig((1, 8, 8), 3)).eval()
    real = Real(tiny_data, Plan(samples=60, images=11), judge)
    noise = frechet.moments(judge.features(torch.rand(60, 1, 8, 8)))
    assert 0 < real.floor < frechet.distance(noise, real.moments)


@pytest.mark.parametrize("changes", [{"samples": 1}, {"images": 0}, {"importance_samples": 0}])
def test_senseless_plans(changes):
    with pytest.raises(UserError, match=next(iter(changes)).replace("_", "-")):
        Plan(**changes)


def test_no_runs():
    with pytest.raises(UserError, match="name the runs"):
        rows([], lambda run, then: None, PLAN)


def test_training_images_as_if_they_were_samples(compared, tiny_data):
    plan = replace(PLAN, training_images=True)
    *_, row = found = compared("draw", "gan", plan=plan)
    assert [r.run.endswith("images") for r in found] == [False, False, True]
    train = torch.from_numpy(tiny_data.splits["train"].pixels[::3]).float()
    valid, test = (torch.from_numpy(tiny_data.splits[s].pixels).float() for s in ("valid", "test"))
    p = parzen.estimate(train, valid, test)
    assert row.figures["parzen"].value == pytest.approx(p.nats, rel=1e-5)
    distance = row.figures["frechet"].value
    assert row.figures["frechet"].why == f"training images: {distance:.4f}"
    assert "no model" in row.figures["bound"].why
    assert "training images" in page(found, plan)
