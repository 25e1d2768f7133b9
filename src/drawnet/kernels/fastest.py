"""Which operand type multiplies faster on this processor: measured once, for milliseconds, and kept."""

import contextlib
import re
import time
from collections.abc import Callable
from functools import cache

import torch

from drawnet.errors import UserError, check_source, write_text
from drawnet.kernels.compiled import build, serves
from drawnet.kernels.layers import PackedSequence
from drawnet.nn.recurrent import LSTM

ROUNDS, STEPS, BATCH, INPUTS, UNITS = 5, 8, 64, 264, 256
"""Steps of an LSTM of the paper's size, forward and backward."""
KEPT = re.compile(r"float32 (\d+\.\d+) ms, bfloat16 (\d+\.\d+) ms")


def fastest() -> tuple[torch.dtype, str]:
    """The type whose steps take less time, and what they take, in words."""
    if not serves(torch.bfloat16):
        return torch.float32, "no kernels of bfloat16 products here"
    single, half = (float(ms) for ms in KEPT.fullmatch(times()).groups())  # type: ignore[union-attr]
    return (torch.bfloat16 if half < single else torch.float32), times()


@cache
def times() -> str:
    """The measurement, which is kept beside the compiled kernels: they are one processor's."""
    note = build().with_suffix(".times")
    with contextlib.suppress(UserError, OSError, ValueError):
        text = check_source(note).read_text(encoding="ascii").strip()
        if KEPT.fullmatch(text):
            return text
    text = _measured()
    with contextlib.suppress(UserError):  # a cache that cannot be written is measured again
        write_text(note, text)
    return text


def _measured() -> str:
    """Milliseconds of one thread's processor time a step with either type, in turn; the least.

    Not the clock's: what else the machine has to do must not decide, for the choice is kept.
    """
    spent: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            runs = {dtype: _steps(dtype) for dtype in spent}
            for _ in range(ROUNDS):
                for dtype, run in runs.items():
                    start = time.thread_time()
                    run()
                    spent[dtype].append((time.thread_time() - start) / STEPS * 1e3)
    finally:
        torch.set_num_threads(threads)
    single, half = map(min, spent.values())
    return f"float32 {single:.3f} ms, bfloat16 {half:.3f} ms"


def _steps(dtype: torch.dtype) -> Callable[[], None]:
    layer = LSTM((INPUTS,), UNITS)
    x, h, c = (torch.randn(BATCH, n) for n in (INPUTS, UNITS, UNITS))

    def run() -> None:
        state = h, c
        with PackedSequence(layer, dtype, 0, [layer]):
            for _ in range(STEPS):
                state = layer((x,), *state)
        sum(t.sum() for t in state).backward()  # type: ignore[union-attr]

    return run
