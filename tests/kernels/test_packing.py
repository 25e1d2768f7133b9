"""Sequences with packed weights: the same numbers, the same gradients, nothing kept."""

import gc
import weakref

import pytest
import torch
from torch import nn

from drawnet.kernels import library, packing, serves
from drawnet.kernels.layers import PackedSequence
from drawnet.nn.recurrent import LSTM, Linear, Operands

pytestmark = pytest.mark.skipif(isinstance(library(), str), reason="no kernels on this machine")


class Net(nn.Module):
    """Two LSTMs and a linear layer in a loop, the second LSTM fed by two inputs side by side."""

    def __init__(self, units=6):
        super().__init__()
        self.first = LSTM((3,), units)
        self.second = LSTM((units, 2), units)
        self.out = Linear(2 * units, 4)
        self.units = units
        for p in self.parameters():
            nn.init.normal_(p, std=0.4)

    def forward(self, x, side):
        """x (T, B, 3), side (T, B, 2) -> (T, B, 4)."""
        zero = x.new_zeros(x.shape[1], self.units)
        h1 = c1 = h2 = c2 = zero
        out = []
        for part, extra in zip(x, side, strict=True):
            h1, c1 = self.first((part,), h1, c1)
            h2, c2 = self.second((h1, extra), h2, c2)
            out.append(self.out(h1, h2))
        return torch.stack(out)


def setup(dtype=torch.float32, steps=5, batch=3, seed=0):
    torch.manual_seed(seed)
    net = Net().to(dtype)
    x = torch.randn(steps, batch, 3, dtype=dtype, requires_grad=True)
    side = torch.randn(steps, batch, 2, dtype=dtype, requires_grad=True)
    weights = torch.randn(steps, batch, 4, dtype=dtype)
    return net, x, side, lambda out: (out * weights).sum() + (out**2).sum()


def gradients(net, x, side, loss):
    return torch.autograd.grad(loss, [*net.parameters(), x, side], retain_graph=True)


def sequence(net, dtype=torch.float32, steps=0):
    return PackedSequence(net, dtype, steps, [net.first, net.second, net.out])


def unrolled(net, x, side, dtype=torch.float32):
    with sequence(net, dtype):
        return net(x, side)


def close(ours, theirs, limit):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= limit * b.abs().max()


# ---- sequences -----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 7, 1536])
def test_packing_changes_neither_output_nor_gradient(block, monkeypatch):
    monkeypatch.setattr(packing, "BLOCK", {torch.float32: block})
    net, x, side, loss = setup()
    plain = net(x, side)
    expected = gradients(net, x, side, loss(plain))
    assert all(g.abs().max() > 1e-3 for g in expected)
    out = unrolled(net, x, side)
    close([out], [plain], 1e-5)
    ours = gradients(net, x, side, loss(out))
    assert [g.dtype for g in ours] == [torch.float32] * len(ours)
    close(ours, expected, 1e-5)


def test_backward_accumulates_as_it_does_without():
    net, x, side, loss = setup()
    expected = gradients(net, x, side, loss(net(x, side)))
    total = loss(unrolled(net, x, side))
    total.backward(retain_graph=True)
    close([p.grad for p in net.parameters()], expected[:-2], 1e-5)
    total.backward()
    close([p.grad for p in net.parameters()], [2 * g for g in expected[:-2]], 1e-5)


def test_sequences_follow_one_another_and_do_not_mix():
    net, x, side, loss = setup()
    first, second = unrolled(net, x, side), unrolled(net, 2 * x, side)
    expected = [gradients(net, x, side, loss(net(k * x, side))) for k in (1, 2)]
    close(gradients(net, x, side, loss(second)), expected[1], 1e-5)
    close(gradients(net, x, side, loss(first)), expected[0], 1e-5)
    both = gradients(net, x, side, loss(unrolled(net, x, side)) + loss(unrolled(net, 2 * x, side)))
    close(both, [a + b for a, b in zip(*expected, strict=True)], 1e-5)
    with torch.no_grad():
        net.first.weight.mul_(1.5)
    close([unrolled(net, x, side)], [net(x, side)], 1e-5)  # the new weights, not the last ones


def test_a_sequence_may_be_nested_and_entered_again():
    net, x, side, loss = setup()
    plain = net(x, side)
    expected = gradients(net, x, side, loss(plain))
    session = sequence(net)
    with session:
        with session:
            head = net(x, side)
        inner = net.first.forward
        with sequence(net):
            assert net.first.forward is not inner
            other = net(x, side)
        assert net.first.forward is inner
    assert "forward" not in vars(net.first)
    with session:
        tail = net(x, side)
    close([head, other, tail], [plain] * 3, 1e-5)
    total = loss(head) + loss(other) + loss(tail)
    close(gradients(net, x, side, total), [3 * g for g in expected], 1e-5)


def test_an_exception_leaves_the_layers_as_they_were():
    net, x, side, loss = setup()
    with pytest.raises(RuntimeError), sequence(net):
        net(x, side[..., :1])
    assert all("forward" not in vars(layer) for layer in (net.first, net.second, net.out))
    expected = gradients(net, x, side, loss(net(x, side)))
    close(gradients(net, x, side, loss(unrolled(net, x, side))), expected, 1e-5)


def test_a_gradient_may_be_asked_of_some_leaves_only():
    net, x, side, loss = setup()
    expected = gradients(net, x, side, loss(net(x, side)))
    leaves = [*net.parameters(), x, side]
    for k, leaf in enumerate(leaves):
        (ours,) = torch.autograd.grad(loss(unrolled(net, x, side)), leaf)
        close([ours], [expected[k]], 1e-5)
    net.second.weight.requires_grad_(False)
    loss(unrolled(net, x, side)).backward()
    assert net.second.weight.grad is None
    rest = [k for k, leaf in enumerate(leaves) if leaf is not net.second.weight]
    close([leaves[k].grad for k in rest], [expected[k] for k in rest], 1e-5)


def test_asking_for_some_gradients_leaves_the_others_right():
    net, x, side, loss = setup()
    leaves = [*net.parameters(), x, side]
    expected = gradients(net, x, side, loss(net(x, side)))
    total = loss(unrolled(net, x, side))
    for k in (-1, 0, 2, -2, 4):
        (ours,) = torch.autograd.grad(total, leaves[k], retain_graph=True)
        close([ours], [expected[k]], 1e-5)
    total.backward()
    close([leaf.grad for leaf in leaves], expected, 1e-5)


def test_no_gradient_is_kept_under_no_grad():
    net, x, side, _ = setup()
    with torch.no_grad():
        out = unrolled(net, x, side)
    assert out.grad_fn is None
    close([out], [net(x, side)], 1e-5)


def test_bfloat16_operands_keep_float32_outside():
    if not serves(torch.bfloat16):
        pytest.skip("the processor has no products of bfloat16")
    net, x, side, loss = setup(batch=64)
    exact = loss(net(x, side))
    out = unrolled(net, x, side, torch.bfloat16)
    assert out.dtype == torch.float32
    assert loss(out).item() == pytest.approx(exact.item(), rel=0.01)
    assert loss(out).item() != exact.item()
    ours = gradients(net, x, side, loss(out))
    expected = gradients(net, x, side, exact)
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.02 * b.norm()


def test_inputs_of_another_type_go_to_the_formula():
    net, x, side, _ = setup()
    with sequence(net):
        net.double()
        out = net(x.double(), side.double())
    torch.testing.assert_close(out, net(x.double(), side.double()), rtol=1e-5, atol=1e-6)


# ---- memory -------------------------------------------------------------------------------------


def live_tensors():
    return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())


@pytest.mark.parametrize("dtype", [t for t in (torch.float32, torch.bfloat16) if serves(t)])
@pytest.mark.parametrize("backward", [False, True])
def test_nothing_outlives_a_sequence(backward, dtype):
    net, x, side, loss = setup()
    net.zero_grad(set_to_none=False)
    loss(unrolled(net, x, side, dtype)).backward()  # gradients exist from here on
    gc.collect()
    gc.disable()
    try:
        before = live_tensors()
        for _ in range(3):
            session, refs = sequence(net, dtype), []
            with session:
                out = net(x, side)
                for layer in (net.first, net.second, net.out):
                    kept = layer.forward.weights
                    refs += [weakref.ref(o) for o in (out, kept, kept.grads, kept.forward)]
                del kept
            total = loss(out)
            if backward:
                total.backward()
            del session, out, total
            assert [ref() for ref in refs if ref() is not None] == []
        assert live_tensors() == before
    finally:
        gc.enable()


def test_backward_frees_what_the_forward_pass_saved():
    """Rows, operands and activations go with the graph, while the loss is still held."""
    net, x, side, loss = setup()
    saved, own = [], {id(t) for t in (*net.parameters(), x, side)}

    def pack(t):
        if id(t) not in own:
            saved.append(weakref.ref(t))
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = unrolled(net, x, side)
    total = loss(out)
    del out
    gc.collect()
    gc.disable()
    try:
        assert sum(ref() is not None for ref in saved) > 20
        total.backward()
        assert [ref() for ref in saved if ref() is not None] == []
    finally:
        gc.enable()


def test_a_block_is_no_longer_than_the_steps_in_a_row():
    """Recomputation keeps little only if the blocks of operands end with its segments."""
    net, x, side, _ = setup(steps=5)
    session = sequence(net, steps=2)
    with session:
        net(x[:2], side[:2])
    first = net_blocks(session)
    assert [block.shape[0] for block in first] == [2, 2, 2]
    with session:
        net(x[2:4], side[2:4])
    assert not {b.data_ptr() for b in first} & {b.data_ptr() for b in net_blocks(session)}


def net_blocks(session):
    return [kernel.weights.grads.block for kernel in session.kernels]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_product_with_an_input_that_stays_is_taken_once(dtype):
    if not serves(dtype):
        pytest.skip(f"no kernels of {dtype} on this processor")
    torch.manual_seed(0)
    layer = LSTM((3, 70, 2), 6)
    still, first, last = torch.randn(4, 70), torch.randn(5, 4, 3), torch.randn(5, 4, 2)
    leaves = [t.requires_grad_() for t in (still, first, last)] + [*layer.parameters()]
    seeds = torch.randn(5, 4, 6)

    def run(context):
        h = c = torch.zeros(4, 6)
        total = 0.0
        with context:
            for a, b, seed in zip(first, last, seeds, strict=True):
                h, c = layer((a, still.flatten(1), b), h, c)
                total = total + (h * seed).sum()
            apart = getattr(vars(layer).get("forward"), "apart", None)
        return [h, c, *torch.autograd.grad(total, leaves)], apart

    expected, _ = run(Operands(layer, dtype))
    found, apart = run(PackedSequence(layer, dtype, 0, [layer], constant=[still]))
    assert apart[0] == [False, True, False, False]
    assert apart[1].plain.shape == (24, 3 + 2 + 6)
    scale = 1e-5 if dtype == torch.float32 else 2e-2
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=scale, atol=scale * theirs.abs().max().item())
    _, apart = run(PackedSequence(layer, dtype, 0, [layer], constant=[torch.randn(4, 70)]))
    assert apart is None, "another tensor of that size"


def test_a_second_derivative_is_refused():
    net, x, side, loss = setup()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss(unrolled(net, x, side)), x, create_graph=True)
