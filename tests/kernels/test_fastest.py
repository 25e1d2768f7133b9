"""The operand type of `--precision auto` is a measurement's, kept beside the compiled kernels."""

import sys
import time

import pytest
import torch

from drawnet import kernels
from drawnet.kernels import compiled
from drawnet.kernels import fastest as module_function
from drawnet.kernels.fastest import KEPT, fastest, times

pytestmark = pytest.mark.skipif(
    not kernels.serves(torch.bfloat16), reason="needs bfloat16 products, and a C compiler"
)


@pytest.fixture
def note(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    times.cache_clear()
    yield compiled.build().with_suffix(".times")
    times.cache_clear()


def test_the_measurement_is_made_once_and_kept(note):
    assert module_function is fastest
    dtype, text = fastest()
    single, half = map(float, KEPT.fullmatch(text).groups())
    assert dtype is (torch.bfloat16 if half < single else torch.float32)
    assert note.read_text() == text


@pytest.mark.parametrize(
    ("kept", "dtype"),
    [
        ("float32 2.000 ms, bfloat16 1.000 ms", torch.bfloat16),
        ("float32 1.000 ms, bfloat16 2.000 ms", torch.float32),
    ],
)
def test_the_faster_type_is_chosen(note, kept, dtype):
    note.write_text(kept)
    assert fastest() == (dtype, kept)
    assert kernels.operand_dtype("auto") is dtype
    assert kernels.precision("auto", kernels="off") == "float32"


@pytest.mark.parametrize("kept", [b"", b"float32 x ms", b"\xff\x00"])
def test_a_damaged_measurement_is_made_again(note, kept):
    note.write_bytes(kept)
    assert KEPT.fullmatch(fastest()[1])
    assert KEPT.fullmatch(note.read_text())


def test_measuring_leaves_no_trace_in_the_random_numbers(note):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fastest()
    assert torch.equal(torch.rand(2), expected)


def test_a_wait_for_the_processor_does_not_count(note, monkeypatch):
    real = sys.modules[fastest.__module__]._steps

    def hindered(dtype):
        run = real(dtype)
        return lambda: (time.sleep(0.05 * (dtype is torch.bfloat16)), run())

    monkeypatch.setattr(sys.modules[fastest.__module__], "_steps", hindered)
    threads = torch.get_num_threads()
    assert (
        float(KEPT.fullmatch(fastest()[1])[2]) < 50 / 8
    )  # milliseconds a step, of which 6 are slept
    assert torch.get_num_threads() == threads


def test_kernels_that_come_back_are_asked_again(note, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(sys.modules[fastest.__module__], "serves", lambda _: False)
        assert fastest() == (torch.float32, "no kernels of bfloat16 products here")
    assert fastest()[1] == note.read_text()
