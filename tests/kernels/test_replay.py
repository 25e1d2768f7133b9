"""A replayed sequence gives, bit for bit, what its operations give one by one."""

import copy
import multiprocessing
import threading

import pytest
import torch

import golden_runs
from drawnet import kernels, models
from drawnet.kernels import compiled, replay
from drawnet.kernels.install import Accelerator
from drawnet.kernels.layers import LSTMKernel
from drawnet.kernels.replay import Recording, Recordings, Tape, Unfit
from drawnet.models.base import LossOptions
from drawnet.models.sequential import StepModel
from drawnet.nn.noise import Noise

pytestmark = pytest.mark.skipif(isinstance(kernels.library(), str), reason="needs a C compiler")

STEP_MODELS = [kind for kind in models.names() if issubclass(models.module(kind).Model, StepModel)]


def build(kind="draw", precision=torch.float32, **changes):
    torch.manual_seed(0)
    config = models.config(kind)(**{**golden_runs.MODELS[kind], **changes})
    model = models.build(config, (1, 12, 12))
    model.precision = precision
    kernels.install(model)
    return model


def inputs(model, k, batch=6):
    torch.manual_seed(k)
    x = (torch.rand(batch, *model.shape) < 0.4).float()
    y = torch.eye(model.classes)[torch.arange(batch) % model.classes] if model.classes else None
    return x, torch.zeros(batch, 0) if y is None else y, Noise(0, k)


def step(model, k, batch=6):
    model.zero_grad()
    x, y, noise = inputs(model, k, batch)
    terms = model.loss(x, y, noise, LossOptions())
    terms.loss.mean().backward()
    rate = terms.metrics["rate"].detach()
    return [
        terms.loss.detach(),
        rate,
        *(p.grad.clone() for p in model.parameters() if p.grad is not None),
    ]


def recordings(model):
    made = model.unroll.__self__.recordings.values()
    return [r for known in made for r in known.known.values() if isinstance(r, Recording)]


def one_by_one(monkeypatch):
    monkeypatch.setattr(Recordings, "__call__", lambda self, *inputs: self.function(*inputs))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", STEP_MODELS)
def test_replays_train_as_the_operations_do(kind, precision, monkeypatch):
    if not compiled.serves(precision):
        pytest.skip(f"no kernels of {precision} on this processor")
    model = build(kind, precision)
    ours = [step(model, k) for k in range(4)]
    assert len(recordings(model)) == 1
    one_by_one(monkeypatch)
    other = build(kind, precision)
    for k in range(4):
        for a, b in zip(ours[k], step(other, k), strict=True):
            assert torch.equal(a, b)
    assert not recordings(other)


@pytest.mark.parametrize("changes", [{"features": 3, "units": 64}, {"read": 0, "write": 0}])
def test_what_stays_the_same_at_every_step_is_replayed_with_its_gradient(changes, monkeypatch):
    model = build(**changes)
    taken = []
    once = LSTMKernel.taken_once
    monkeypatch.setattr(LSTMKernel, "taken_once", lambda *a: taken.append(a) or once(*a))
    ours = [step(model, k) for k in range(3)]
    assert len(recordings(model)) == 1 and taken
    assert model.convolutions is None or model.convolutions.layers[0].weight.grad.any()
    one_by_one(monkeypatch)
    other = build(**changes)
    for k in range(3):
        assert all(torch.equal(a, b) for a, b in zip(ours[k], step(other, k), strict=True))
    kernels.uninstall(other)
    for a, b in zip(ours[2], step(other, 2), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * b.abs().max().item())


@pytest.mark.parametrize("kind", STEP_MODELS)
def test_replays_evaluate_as_the_operations_do(kind, monkeypatch):
    def bounds(model):
        with torch.no_grad():
            return [model.loss(*inputs(model, k), LossOptions()).loss for k in range(4)]

    model = build(kind).eval()
    ours = bounds(model)
    assert recordings(model)
    one_by_one(monkeypatch)
    assert all(torch.equal(a, b) for a, b in zip(ours, bounds(build(kind).eval()), strict=True))


def test_new_weights_are_replayed_and_not_the_recorded_ones():
    model = build()
    for k in range(3):
        step(model, k)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.1)
    changed = step(model, 5)
    other = build()
    other.load_state_dict(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(changed, step(other, 5), strict=True))


def test_a_second_pass_before_the_first_is_done_spoils_neither():
    model, other = build(), build()
    for k in range(2):
        step(model, k)

    def loss(model, k):
        return model.loss(*inputs(model, k), LossOptions()).loss.mean()

    first, second = loss(model, 7), loss(model, 8)
    for ours, k in ((second, 8), (first, 7)):
        expected = torch.autograd.grad(loss(other, k), other.encoder.weight)[0]
        assert torch.equal(torch.autograd.grad(ours, model.encoder.weight)[0], expected)


def test_results_stay_when_the_recording_is_replayed():
    model = build()
    for k in range(2):
        step(model, k)
    with torch.no_grad():
        kept = [model.loss(*inputs(model, 1), LossOptions()).loss for _ in range(3)]
        before = kept[2].clone()
        model.loss(*inputs(model, 2), LossOptions())
    assert torch.equal(kept[2], before)


def test_threads_that_use_one_model_at_once_get_their_own_numbers():
    model, found = build(), {}

    def bound(k):
        with torch.no_grad():
            return model.loss(*inputs(model, k), LossOptions()).loss

    noise = {k: inputs(model, k) for k in range(4)}  # the seed is the process's: drawn beforehand

    def use(k):
        with torch.no_grad():
            found[k] = [model.loss(*noise[k], LossOptions()).loss for _ in range(30)]

    users = [threading.Thread(target=use, args=(k,)) for k in noise]
    for user in users:
        user.start()
    for user in users:
        user.join(60)
    for k in noise:
        assert all(torch.equal(loss, bound(k)) for loss in found[k])


def test_a_copy_of_a_model_has_weights_and_recordings_of_its_own():
    model = build()
    for k in range(3):
        step(model, k)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.1)
    expected = build()
    for k in range(3, 6):
        for ours, theirs in zip(step(model, k), step(expected, k), strict=True):
            assert torch.equal(ours, theirs)
    expected.load_state_dict(other.state_dict())
    for k in range(3):
        for ours, theirs in zip(step(other, k), step(expected, k), strict=True):
            assert torch.equal(ours, theirs)


def test_a_few_sizes_are_kept():
    model = build()
    for batch in range(2, 10):
        for k in range(2):
            step(model, k, batch)
    assert len(recordings(model)) <= replay.MOST


def test_what_a_user_put_into_the_model_is_not_passed_by():
    model, seen = build(), []
    model.encoder.register_forward_hook(lambda *_: seen.append(1))
    for k in range(3):
        step(model, k)
    assert len(seen) == 3 * model.steps
    other = build()
    other.infer = lambda x, state: seen.append(2) or type(other).infer(other, x, state)
    for k in range(3):
        step(other, k)
    assert seen.count(2) == 3 * other.steps
    step(model := build(), 0), step(model, 1)  # recorded
    model.read = lambda images, window: 0 * type(model).read(model, images, window)
    without = build()
    without.read = model.read
    assert torch.equal(step(model, 2)[0], step(without, 2)[0])
    assert not torch.equal(step(model, 2)[0], step(build(), 2)[0])

    class Own(models.module("draw").Draw):
        """A model of a user's own, whose numbers may change between two calls."""

        scale = 1.0

        def infer(self, x, state):
            q, state = super().infer(x, state)
            return q._replace(mu=q.mu * self.scale), state

    Own.__module__ = "mine"
    own = Own(model.config, model.shape)
    own.precision = torch.float32
    kernels.install(own)
    before = [step(own, 0) for _ in range(3)][-1]
    own.scale = 2.0
    assert not torch.equal(before[0], step(own, 0)[0])


@pytest.mark.parametrize(
    "unfit",
    [
        lambda x: x * x.sum().item(),
        lambda x: x[x > 0],
        torch.bernoulli,
        lambda x: x + torch.rand_like(x),
    ],
)
def test_what_depends_on_values_or_chance_is_not_recorded(unfit):
    with pytest.raises(Unfit), Tape(3):
        unfit(torch.full((3, 2), 0.5))
    assert not compiled.listeners.all


def test_a_replay_that_gives_other_numbers_is_not_used():
    calls = []

    def fickle(x):
        calls.append(1)
        return (x * len(calls),)

    with torch.no_grad(), pytest.raises(Unfit, match="other numbers"):
        Recording(fickle, [torch.rand(3, 2)], [])


def test_rows_are_added_copied_joined_and_cleared_as_pytorch_does():
    def mixed(x, wide):
        total = x.clone()
        total += wide[:, 1:4]
        return torch.cat((total, wide, x), 1), torch.zeros_like(x) + x, wide[:, ::2].clone()

    given = torch.rand(5, 3), torch.rand(5, 6)
    with torch.no_grad():
        recording = Recording(mixed, given, [])
    for _ in range(2):
        given = torch.rand(5, 3), torch.rand(5, 6)
        recording.run(given)
        assert all(torch.equal(a, b) for a, b in zip(recording.outputs, mixed(*given), strict=True))


# ---- the team of threads -------------------------------------------------------------------------


def rows_copied(rows, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, out = torch.rand(rows, 7), torch.zeros(rows, 7)
        compiled.call("copy_rows", rows, 7, a, 7, out, 7)
        return torch.equal(a, out)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 2])
def test_every_row_is_done_once_by_any_number_of_threads(threads):
    assert all(rows_copied(rows, threads) for rows in (1, 2, 5, 64, 1000))


def test_callers_on_several_threads_do_not_wait_for_each_other():
    done = []
    callers = [
        threading.Thread(target=lambda: done.append(all(rows_copied(99, 2) for _ in range(50))))
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert done == [True] * 4


def _in_a_child(pipe):
    pipe.send(all(rows_copied(rows, 2) for rows in (5, 500)))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_a_team_of_its_own():
    assert rows_copied(50, 2)
    near, far = multiprocessing.get_context("fork").Pipe()
    child = multiprocessing.get_context("fork").Process(target=_in_a_child, args=(far,))
    child.start()
    assert near.poll(30) and near.recv()
    child.join(30)


def test_an_uninstalled_model_keeps_no_recording():
    model = build()
    for k in range(2):
        step(model, k)
    kernels.uninstall(model)
    assert "unroll" not in vars(model)
    assert Accelerator(model).recordings == {}
