"""LSTM and linear layers: PyTorch's own numbers and gradients, and operands that are rounded."""

import numpy as np
import pytest
import torch
from torch import nn

import oracle
from drawnet.nn.recurrent import LSTM, Linear, Operands

TIGHT = {torch.float64: 1e-12, torch.float32: 1e-5}


def close(ours, theirs, limit):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= limit * b.abs().max()


@pytest.mark.parametrize("dtype", TIGHT)
def test_the_lstm_is_pytorchs(dtype):
    torch.manual_seed(1)
    ours, theirs = LSTM((3, 4), 5).to(dtype), nn.LSTMCell(7, 5).to(dtype)
    with torch.no_grad():
        ours.bias.normal_()
        theirs.weight_ih.copy_(ours.weight[:, :7])
        theirs.weight_hh.copy_(ours.weight[:, 7:])
        theirs.bias_ih.copy_(ours.bias)
        theirs.bias_hh.zero_()
    a, b, h, c = (torch.randn(2, k, dtype=dtype, requires_grad=True) for k in (3, 4, 5, 5))
    mine = ours((a, b), h, c)
    yours = theirs(torch.cat((a, b), 1), (h, c))
    close(mine, yours, TIGHT[dtype])
    ours_all, theirs_all = (
        torch.autograd.grad((3 * h_next + c_next**2).sum(), (a, b, h, c, bias))
        for (h_next, c_next), bias in ((mine, ours.bias), (yours, theirs.bias_ih))
    )
    close(ours_all, theirs_all, TIGHT[dtype])


def test_the_lstm_is_the_oracles():
    torch.manual_seed(2)
    layer = LSTM((3, 2), 4).double()
    with torch.no_grad():
        layer.bias.normal_()
    parts = [torch.randn(2, k, dtype=torch.float64) for k in (3, 2, 4, 4)]
    a, b, h, c = parts
    ours = layer((a, b), h, c)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    for k in range(2):
        x = np.concatenate((a[k], b[k]))
        expected = oracle.lstm(weight, bias, x, h[k].numpy(), c[k].numpy())
        for mine, theirs in zip(ours, expected, strict=True):
            assert mine[k].tolist() == pytest.approx(list(theirs), rel=1e-12)


def test_a_linear_layer_takes_its_inputs_side_by_side():
    layer = Linear(5, 3).double()
    nn.init.normal_(layer.bias)
    a, b = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 1, dtype=torch.float64)
    expected = torch.cat((a, b), 1) @ layer.weight.T + layer.bias
    assert torch.allclose(layer(a, b), expected, rtol=1e-12)


def test_operands_are_rounded_and_nothing_else():
    """W and x have 8 bits inside of the context; the bias, c and what comes out have all of theirs."""
    torch.manual_seed(3)
    layer = Linear(40, 30)
    nn.init.normal_(layer.bias)
    x = torch.randn(8, 40)
    exact = layer(x)
    outer, inner = Operands(layer, torch.bfloat16), Operands(layer, None)
    with outer:
        rounded = layer(x)
        with inner:
            assert torch.equal(layer(x), exact)
        assert torch.equal(layer(x), rounded)
    assert torch.equal(layer(x), exact) and layer.operand_dtype is None
    product = x.bfloat16() @ layer.weight.bfloat16().T
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, product.float() + layer.bias)
    with pytest.raises(ZeroDivisionError), outer:
        raise ZeroDivisionError
    assert torch.equal(layer(x), exact)
