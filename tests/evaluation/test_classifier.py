"""The classifier: learns, is the same from a seed, comes back from its file, reads real digits."""

import numpy as np
import pytest
import torch

from drawnet import data
from drawnet.errors import UserError
from drawnet.evaluation import classifier
from drawnet.evaluation.classifier import ClassifierConfig, fit, shifted
from drawnet.training.checkpoint import save_tensors


def tensors(images):
    return torch.from_numpy(images.pixels), torch.from_numpy(images.labels)


def bars(n, seed):
    """Lines across (0), down (1) and slanting (2) anywhere on 8 × 8, uint8; and which, int64."""
    rng = np.random.default_rng(seed)
    pixels, labels = np.zeros((n, 1, 8, 8), np.uint8), np.arange(n) % 3
    for image, label in zip(pixels, labels, strict=True):
        y, x = rng.integers(0, 5, 2)
        for k in range(4):
            image[0, y + k * (label != 0), x + k * (label != 1)] = 1
    return torch.from_numpy(pixels), torch.from_numpy(labels)


@pytest.fixture(scope="module")
def learned():
    sizes = {"channels": 8, "features": 12}
    return fit(*bars(300, 0), levels=2, epochs=20, batch=20, lr=1e-2, **sizes)


def test_it_learns_to_tell_lines_apart_at_places_that_it_has_not_seen(learned):
    pixels, labels = bars(99, 1)
    assert (learned.classify(pixels.float()) == labels).float().mean() > 0.9


def test_the_same_seed_gives_the_same_weights_and_leaves_the_others_alone(tiny_data):
    pixels, labels = tensors(tiny_data.splits["train"])
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(states))
        expected = torch.rand(1, generator=torch.Generator().manual_seed(len(states)))
        network = fit(pixels, labels, levels=2, binary=True, epochs=1, seed=seed)
        assert torch.equal(torch.rand(1), expected)
        states.append(torch.cat([p.flatten() for p in network.parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 20), (2, 5, 7)])
def test_any_shape_and_number_of_classes(shape):
    network = classifier.ReferenceClassifier(
        ClassifierConfig(shape, 7, channels=4, features=10)
    ).eval()
    x = torch.rand(6, *shape)
    assert network(x).shape == (6, 7)
    features = network.features(x)
    assert features.shape == (6, 10) and features.min() >= 0
    torch.testing.assert_close(network.out(features), network(x))
    assert torch.equal(network.classify(x), network(x).argmax(1))


def test_shifts_are_whole_pixels_and_reach_both_ways():
    torch.manual_seed(0)
    x = torch.zeros(400, 2, 9, 8)
    x[:, :, 4, 3] = torch.tensor([1.0, 2.0])
    places = [tuple(image.nonzero()[0].tolist()) for image in shifted(x)[:, 0]]
    assert {(r - 4, c - 3) for r, c in places} == {
        (a, b) for a in range(-2, 3) for b in range(-2, 3)
    }
    assert torch.equal(shifted(x).flatten(2).sum(2), torch.tensor([[1.0, 2.0]]).expand(400, 2))
    assert torch.equal(shifted(x, 0), x)


def test_a_saved_classifier_is_the_same(learned, tmp_path):
    path = tmp_path / "classifier.safetensors"
    classifier.save(path, learned, {"accuracy": 0.5})
    back, header = classifier.load(path)
    assert back.config == learned.config and header.accuracy == 0.5
    x = torch.rand(9, 1, 8, 8)
    assert not back.training
    assert torch.equal(back(x), learned.eval()(x))
    save_tensors(path, dict(learned.state_dict()), {"other": 1})
    with pytest.raises(UserError, match="classifier is missing"):
        classifier.load(path)


@pytest.mark.slow
def test_it_reads_mnist(real_data):
    """98.5 % of the test digits at least, as intensities and as Bernoulli draws of them."""
    digits = data.load("mnist", real_data)
    network = fit(*tensors(digits.splits["train"]), binary=True)
    pixels, labels = tensors(digits.splits["test"])
    x = pixels.float() / 255
    drawn = (torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < x).float()
    for images in (x, drawn):
        assert (network.classify(images) == labels).float().mean() >= 0.985
