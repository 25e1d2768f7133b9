"""Every model takes images that are no squares, and what is drawn of them has their shape."""

import pytest
import torch

from conftest import small
from drawnet import models
from drawnet.drawing import sample
from drawnet.models.base import Classifier, ImplicitModel, LossOptions
from drawnet.models.sequential import StepModel
from drawnet.nn.noise import Noise

KINDS = [kind for kind in models.names() if kind != "chairs"]  # whose pictures are renderings


@pytest.mark.parametrize("shape", [(1, 20, 28), (1, 28, 12)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_rectangle(kind, shape):
    torch.manual_seed(0)
    model = models.build(small(kind), shape)
    x = torch.rand(2, *shape).round()
    y = torch.eye(model.classes)[:2] if model.classes else torch.zeros(2, 0)
    loss = model.loss(x, y, Noise(0, 0), LossOptions()).loss
    assert loss.shape == (2,) and loss.isfinite().all()
    loss.mean().backward()
    if isinstance(model, StepModel | ImplicitModel):
        images = sample.sample(model, 3)
        assert images.shape == (3, *shape) and images.isfinite().all()
    else:
        assert not isinstance(model, Classifier) or model.classify(x).shape == (2, model.classes)
