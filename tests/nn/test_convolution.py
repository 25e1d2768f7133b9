"""Convolutions on their way up: each is a transposed convolution, and any image is a cut-out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from drawnet.nn.convolution import ConvDecoder, UpConv, halved
from reference import twin


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_an_up_convolution_is_a_transposed_one(kernel, stride):
    layer = UpConv(5, 2, kernel, stride).double()
    nn.init.normal_(layer.bias)
    h = torch.randn(3, 5, 4, 3, dtype=torch.float64)
    expected = twin(layer, h)
    assert expected.shape == (3, 2, 4 * stride, 3 * stride)
    assert torch.allclose(layer(h), expected, rtol=1e-10)
    assert torch.allclose(layer(h[:, :2], h[:, 2:]), expected, rtol=1e-10)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 10), (2, 1, 3)])
@pytest.mark.parametrize("num_downsamples", [1, 2, 3])
def test_a_decoder_is_transposed_convolutions_of_maps(shape, num_downsamples):
    layer = ConvDecoder(6, 4, 3, num_downsamples, shape).double()
    for p in layer.parameters():
        nn.init.normal_(p, std=0.3)
    h = torch.randn(5, 6, dtype=torch.float64)
    x = F.linear(h, layer.linear.weight, layer.linear.bias)
    x = x.view(5, 4, *halved(*shape[1:], num_downsamples))
    for up in layer.layers:
        x = twin(up, x.tanh())
    assert torch.allclose(layer(h), x[:, :, : shape[1], : shape[2]], rtol=1e-10)
    assert layer(h).shape == (5, *shape)
