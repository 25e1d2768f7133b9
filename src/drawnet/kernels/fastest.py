"""Which operand type multiplies faster on this processor: measured once, for milliseconds, and kept."""

import contextlib
import os
import re
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from drawnet.kernels.compiled import build, serves
from drawnet.kernels.layers import PackedSequence
from drawnet.nn.recurrent import LSTM

ROUNDS, STEPS, BATCH, INPUTS, UNITS = 5, 8, 64, 264, 256
"""Steps of an LSTM of the paper's size, forward and backward."""
KEPT = re.compile(r"float32 (\d+\.\d+) ms, bfloat16 (\d+\.\d+) ms")


@cache
def fastest() -> tuple[torch.dtype, str]:
    """The type whose steps take less time, and what they take, in words.

    The measurement is kept beside the compiled kernels, which are those of one processor.
    """
    if not serves(torch.bfloat16):
        return torch.float32, "no bfloat16 products on this processor"
    note = build().with_suffix(".times")
    text = ""
    with contextlib.suppress(OSError, ValueError):
        text = note.read_text(encoding="ascii").strip()
    if not KEPT.fullmatch(text):
        text = _measured()
        _keep(note, text)
    single, half = (float(ms) for ms in KEPT.fullmatch(text).groups())  # type: ignore[union-attr]
    return (torch.bfloat16 if half < single else torch.float32), text


def _keep(note: Path, text: str) -> None:
    scratch = note.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # a cache that cannot be written is measured again
        scratch.write_text(text, encoding="ascii")
        scratch.replace(note)


def _measured() -> str:
    """Milliseconds a step with either type, in turn; medians."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        runs = {dtype: _steps(dtype) for dtype in (torch.float32, torch.bfloat16)}
        times: dict[torch.dtype, list[float]] = {dtype: [] for dtype in runs}
        for _ in range(ROUNDS):
            for dtype, run in runs.items():
                start = time.perf_counter()
                run()
                times[dtype].append((time.perf_counter() - start) / STEPS * 1e3)
    single, half = (statistics.median(times[dtype][1:]) for dtype in runs)  # the first warms up
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
