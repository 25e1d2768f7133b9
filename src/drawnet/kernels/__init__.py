"""The fused CPU kernels, C files of this folder: compiled once with the system's compiler, called
from autograd.  Beside each C file stands the Python file that calls it.

Two seconds' compilation, kept in the user's cache folder and keyed by source, compiler and processor.
Where they cannot be had (no compiler, another device, another number type) the callers' PyTorch
formulas serve instead, with one warning; DRAWNET_KERNELS=0 asks for that.
"""

import contextlib
import ctypes
import gc
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

SOURCES = sorted(Path(__file__).parent.glob("*.[ch]"))
FLAGS = ["-O3", "-march=native", "-std=gnu11", "-fPIC", "-shared", "-fvisibility=hidden"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
FLAGS += ["-fassociative-math", "-freciprocal-math", "-Wno-psabi"]


def cache_folder() -> Path:
    """Where compiled kernels are kept: $XDG_CACHE_HOME/drawnet or ~/.cache/drawnet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drawnet"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return platform.machine() + "".join(
        sorted({line for line in lines if line.startswith(("model name", "flags"))})
    )


def build(folder: Path | None = None) -> Path:
    """The library's path in `folder`, compiled there unless it lies there.  OSError if it fails."""
    named = os.environ.get("CC")
    compiler = shutil.which(named) if named else shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise OSError(f"no C compiler ({named or 'cc or gcc'}) was found")
    # PyTorch's own OpenMP library, where it brings one: two of them would fight for the cores.
    openmp = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*"))
    units = [str(path) for path in SOURCES if path.suffix == ".c"]
    command = [compiler, *FLAGS, "-fopenmp", *units, *map(str, openmp[:1])]
    texts = [path.read_text() for path in SOURCES]
    key = "\n".join([*texts, *command, torch.__version__, _processor()])
    folder = folder or cache_folder()
    library = folder / f"kernels-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch) / library.name
            done = subprocess.run([*command, "-o", str(built)], capture_output=True, text=True)
            if done.returncode:
                lines = done.stderr.splitlines() or ["failed"]
                why = next((line for line in lines if "error" in line), lines[0])
                raise OSError(f"{compiler}: {why}")
            built.replace(library)
    return library


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices natively (AVX-512 BF16 or AMX)."""
    return any(k in _processor() for k in ("avx512_bf16", "amx_bf16"))


def precision(asked: str) -> Literal["float32", "bfloat16"]:
    """'auto' resolved for this machine."""
    return "bfloat16" if asked == "bfloat16" or (asked == "auto" and has_bfloat16()) else "float32"


def operands(name: str) -> torch.dtype:
    """The operand type of the matrix products: of 'float32', 'bfloat16' or 'auto'."""
    return torch.bfloat16 if precision(name) == "bfloat16" else torch.float32


def tune_allocator() -> None:
    """Prepare a process for many like iterations.

    The C library keeps freed memory for the next iteration, instead of having the system hand out and
    clear some 100 MB each time; Python's collector need not look through all that stands already.
    """
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None (with a warning, once) where they are not to be had."""
    if os.environ.get("DRAWNET_KERNELS") == "0":
        return None
    try:
        return ctypes.CDLL(str(build()))
    except (OSError, RuntimeError) as why:  # RuntimeError: Path.home() of a user without a home
        warnings.warn(
            f"fused CPU kernels are off, plain PyTorch serves instead, slower: {why}", stacklevel=2
        )
        return None


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels serve: all operands float32 on the CPU."""
    return library() is not None and all(t.dtype == torch.float32 and t.is_cpu for t in tensors)


def check(tensor: Tensor, *shape: int) -> None:
    """A kernel trusts its sizes: a wrong one would read beyond the tensor's end."""
    if tensor.shape != shape:
        raise ValueError(f"expected a tensor of shape {shape}, not {tuple(tensor.shape)}")


@cache
def _function(name: str, arity: int) -> Any:
    """A kernel whose arguments are words: addresses (None is NULL) and C longs."""
    function = getattr(library(), name)
    function.argtypes, function.restype = [ctypes.c_void_p] * arity, None
    return function


def call(name: str, *arguments: Any) -> None:
    """Call a kernel with numbers and tensors, whose addresses it gets."""
    words = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
    _function(name, len(words))(*words)


def suffix(dtype: torch.dtype) -> str:
    """What the names of kernels for such operands end with."""
    return "bf16" if dtype is torch.bfloat16 else "f32"


def serves(operand: torch.dtype) -> bool:
    """Whether products of such operands have a kernel on this processor."""
    loaded = library()
    return loaded is not None and (
        operand == torch.float32 or (operand == torch.bfloat16 and hasattr(loaded, "pack_bf16"))
    )


def first(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A backward pass without a derivative of its own, that says so when asked for one."""

    def checked(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("the fused layers have no second derivative")
        return backward(ctx, *gradients)

    return checked


class Forget:
    """A context for a forward pass whose gradient nobody will ask for."""

    def save_for_backward(self, *_: Tensor) -> None:
        """Nothing is saved."""


def apply(function: type[torch.autograd.Function], *operands: Any) -> Any:
    """function.apply, without its bookkeeping where gradients are off."""
    if torch.is_grad_enabled():
        return function.apply(*operands)
    return function.forward(Forget(), *operands)
