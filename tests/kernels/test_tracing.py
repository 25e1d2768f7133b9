"""Tracers and transformations get the formulas: kernels step aside as long as one is at work."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from drawnet import kernels
from drawnet.kernels.replay import Tape
from drawnet.models.draw import Draw, DrawConfig
from drawnet.models.sequential import bound, generate
from drawnet.nn.tracing import traced

pytestmark = pytest.mark.skipif(
    isinstance(kernels.library(), str), reason="no kernels on this machine"
)


def build(installed=True):
    """A small model; with kernels, sequences of this size have been recorded."""
    torch.manual_seed(0)
    model = Draw(DrawConfig(steps=3, units=12, latents=4, read=2, write=3), (1, 8, 7)).eval()
    if installed:
        assert set(kernels.install(model).values()) == {"kernel"}
        for function in FUNCTIONS.values():
            for _ in range(3):
                function(model, *inputs())
    return model


def inputs(seed=1):
    """Images and noise, of the same sizes every time."""
    torch.manual_seed(seed)
    return torch.rand(2, 1, 8, 7).round(), torch.randn(3, 2, 4)


def draw(model, x, eps):
    *_, state = generate(model, eps)
    return model.likelihood(state).mean


def read(model, x, eps):
    return bound(model, x, eps).total


FUNCTIONS = {"generate": draw, "bound": read}


class Calls(nn.Module):
    """A function of a model as a module."""

    def __init__(self, function, model):
        super().__init__()
        self.function, self.model = function, model

    def forward(self, x, eps):
        return self.function(self.model, x, eps)


def vmapped(call, *traced_with):
    many = torch.vmap(call)
    return lambda *values: many(*(torch.stack([v, v]) for v in values))[1]


def forward_mode(call, *traced_with):
    """The derivative along ones, by dual numbers."""

    def run(x, eps):
        with forward_ad.dual_level():
            out = call(x, forward_ad.make_dual(eps, torch.ones_like(eps)))
            return forward_ad.unpack_dual(out).tangent

    return run


def jvp(call, *traced_with):
    return lambda x, eps: torch.func.jvp(lambda e: call(x, e), (eps,), (torch.ones_like(eps),))[1]


def jacrev(call, *traced_with):
    return lambda x, eps: torch.func.jacrev(lambda e: call(x, e))(eps)


TRACERS = {
    "make_fx": lambda call, *values: make_fx(call)(*values),
    "make_fx, pre-dispatch": lambda call, *values: make_fx(call, pre_dispatch=True)(*values),
    "make_fx, fake": lambda call, *values: make_fx(
        call, tracing_mode="fake", _allow_non_fake_inputs=True
    )(*values),
    "export": lambda call, *values: torch.export.export(call, values).module(),
    "compile": lambda call, *values: torch.compile(call, backend="eager"),
    "vmap": vmapped, "jvp": jvp, "jacrev": jacrev, "forward mode": forward_mode,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("tracer", TRACERS)
def test_tracing_with_kernels_is_tracing_without(tracer, name):
    torch._dynamo.reset()
    calls = [Calls(FUNCTIONS[name], build(installed)) for installed in (True, False)]
    ours, theirs = (TRACERS[tracer](call, *inputs(1))(*inputs(2)) for call in calls)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    if tracer not in ("jvp", "jacrev", "forward mode"):
        torch.testing.assert_close(ours, calls[1](*inputs(2)), rtol=1e-4, atol=1e-5)


PROCESS = """
import sys, warnings
sys.path[:0] = {path!r}
warnings.simplefilter("ignore")
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from test_tracing import FUNCTIONS, Calls, build, inputs

torch.set_num_threads(1)
for function in FUNCTIONS.values():
    call = Calls(function, build())
    recorded = torch.jit.trace(call, inputs(1))
    torch.testing.assert_close(recorded(*inputs(2)), call(*inputs(2)), rtol=1e-4, atol=1e-5)
    want = call(*inputs(2)).shape
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert call(*map(mode.from_tensor, inputs(2))).shape == want
    call.requires_grad_(False)
    torch.jit.trace(lambda x, eps: call(x, eps), inputs(1))
print("alive")
"""


def test_no_tracer_ends_the_process():
    """In a process of its own: kernels in the hands of `FakeTensorMode` were a crash."""
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    command = [sys.executable, "-c", PROCESS.format(path=path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_a_recording_in_progress_is_no_tracer():
    assert not traced()
    with Tape(2):
        assert traced() and not traced(1)
    assert not traced()
    with torch.device("cpu"), torch.no_grad():
        assert not traced()
