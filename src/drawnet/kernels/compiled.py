"""The C files of this folder: compiled once with the system's compiler, called with addresses.

Compilation takes two seconds.  The library is kept in the user's cache folder under a key of source,
compiler and processor.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drawnet.errors import UserError, cache_dir, check_source, write_atomically, write_text
from drawnet.nn.tracing import traced

SOURCES = sorted(Path(__file__).parent.glob("*.[ch]"))
OFF = "DRAWNET_KERNELS=0"
"""Why there are no kernels, where nobody wants any."""
PATIENCE = 300
"""Seconds that the compiler may take."""
PLAIN = (Tensor, torch.nn.Parameter)
"""Tensors whose memory is their value; subclasses may have other things in mind."""
FLAGS = ["-O3", "-march=native", "-std=gnu11", "-fPIC", "-shared", "-fvisibility=hidden"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
FLAGS += ["-fassociative-math", "-freciprocal-math", "-Wno-psabi"]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    return platform.machine() + "".join(
        sorted({line for line in lines if line.startswith(("model name", "flags"))})
    )


def build(folder: Path | None = None) -> Path:
    """The library's path in `folder`, compiled there unless it lies there; UserError if it fails."""
    named = os.environ.get("CC")
    compiler = shutil.which(named) if named else shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise UserError(f"no C compiler ({named or 'cc or gcc'}) was found")
    units = [str(path) for path in SOURCES if path.suffix == ".c"]
    command = [compiler, *FLAGS, "-pthread", *units]
    texts = [path.read_text(encoding="utf-8") for path in SOURCES]
    key = "\n".join([*texts, *command, torch.__version__, _processor()])
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
    library = (folder or cache_dir()) / f"kernels-{digest[:16]}.so"
    proof = library.with_suffix(".sha256")
    if not _sound(library, proof):
        write_atomically(library, lambda scratch: _compile([*command, "-o", str(scratch)]))
        write_text(proof, hashlib.sha256(library.read_bytes()).hexdigest())
    return library


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired as why:
        raise UserError(f"{command[0]}: not done after {PATIENCE} seconds") from why
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines() or ["failed"]
        reason = next((line for line in lines if "error" in line), lines[0])
        raise UserError(f"{command[0]}: {reason}")


def _sound(library: Path, proof: Path) -> bool:
    """Whether the cached library is the one that was built: loading a damaged one is a crash."""
    try:
        found = hashlib.sha256(check_source(library).read_bytes()).hexdigest()
        return found == check_source(proof).read_text(encoding="ascii", errors="replace")
    except (UserError, OSError):
        return False


@cache
def library() -> ctypes.CDLL | str:
    """The compiled kernels; or, in words, why there are none."""
    wanted = os.environ.get("DRAWNET_KERNELS", "")
    if wanted == "0":
        return OFF
    if wanted not in ("", "1"):
        return f"DRAWNET_KERNELS is {wanted!r}, neither 0 nor 1"
    try:
        return ctypes.CDLL(str(build()))
    except (UserError, OSError) as why:
        return str(why)


def usable(*tensors: Tensor) -> bool:
    """Whether kernels can take these: float32 on the CPU, and no tracer is looking on."""
    if traced(len(listeners.all)):  # each recording in progress is a mode of our own
        return False
    return all(
        type(t) in PLAIN and t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors
    )


def check(tensor: Tensor, *shape: int) -> None:
    """ValueError for a tensor of another shape: kernels do not check sizes."""
    if tensor.shape != shape:
        raise ValueError(f"expected a tensor of shape {shape}, not {tuple(tensor.shape)}")


@cache
def _kernel(name: str) -> int:
    """The address of a kernel."""
    return ctypes.cast(getattr(library(), name), ctypes.c_void_p).value or 0


@cache
def _team() -> Any:
    """The function that has commands done: see team.c."""
    team = library().team  # type: ignore[union-attr]
    team.argtypes, team.restype = [ctypes.c_long, ctypes.c_void_p, ctypes.c_long], None
    return team


@cache
def command_length() -> int:
    """The number of words of a command."""
    return library().words()  # type: ignore[union-attr]


def words(name: str, rows: int, arguments: Iterable[Any]) -> list[int]:
    """A command: the kernel, its number of rows, and its arguments as numbers and addresses."""
    return [_kernel(name), rows, *map(_word, arguments)]


def _word(argument: Any) -> int:
    if isinstance(argument, Tensor):
        return argument.data_ptr()
    return ctypes.addressof(argument) if isinstance(argument, ctypes.Array) else argument or 0


class _Listeners(threading.local):
    """Recordings in progress in a thread: each gets every call that the thread makes."""

    def __init__(self) -> None:
        self.all: list[Any] = []


listeners = _Listeners()


def call(name: str, rows: int, *arguments: Any) -> None:
    """Call a kernel for so many rows with numbers, addresses (None is NULL), and tensors."""
    command = words(name, rows, arguments)
    for listener in listeners.all:
        listener.command(name, command, arguments)
    length = command_length()
    _team()(torch.get_num_threads(), (ctypes.c_long * length)(*command), 1)


def run(commands: Any) -> None:
    """Have an array of commands done, each thread its rows of all of them."""
    _team()(torch.get_num_threads(), commands, len(commands) // command_length())


def suffix(dtype: torch.dtype) -> str:
    """What the names of kernels for such operands end with."""
    return "bf16" if dtype is torch.bfloat16 else "f32"


def serves(operand: torch.dtype) -> bool:
    """Whether products of such operands have a kernel on this processor."""
    loaded = library()
    if isinstance(loaded, str):
        return False
    return operand == torch.float32 or (operand == torch.bfloat16 and hasattr(loaded, "pack_bf16"))


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a backward pass that has no derivative: asking for one is a RuntimeError."""

    def checked(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("the fused layers have no second derivative")
        return backward(ctx, *gradients)

    return checked


class NoSaveContext:
    """The context of a forward pass without gradients."""

    def save_for_backward(self, *_: Tensor) -> None:
        """Nothing is saved."""


def apply(function: type[torch.autograd.Function], *operands: Any) -> Any:
    """Call function.apply, without its bookkeeping where gradients are off."""
    if torch.is_grad_enabled():
        return function.apply(*operands)
    return function.forward(NoSaveContext(), *operands)
