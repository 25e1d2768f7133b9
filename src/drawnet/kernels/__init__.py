"""The fused CPU kernels, C files of this folder: compiled once with the system's compiler, called
from autograd.

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
from collections.abc import Callable, Sequence
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


def settle() -> None:
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


LANES = 16
"""Rows of filters are padded to a multiple of this: LANES in attention.c."""


def small(image: Tensor, n: int) -> bool:
    """Whether an N × N window over such an image (B, C, H, W) fits the kernels' stack."""
    return n * (n + max(image.shape[-2:]) + LANES) <= 2**14


def _filters(like: Tensor, n: int, height: int, width: int) -> Tensor:
    """Room for both filterbanks of every image."""
    rows = sum(-(-side // LANES) * LANES for side in (height, width))
    return like.new_empty(len(like), n * rows)


def _check(tensor: Tensor, *shape: int) -> None:
    """A kernel trusts its sizes: a wrong one would read beyond the tensor's end."""
    if tensor.shape != shape:
        raise ValueError(f"expected a tensor of shape {shape}, not {tuple(tensor.shape)}")


@cache
def _function(name: str, arity: int) -> Any:
    """A kernel whose arguments are words: addresses (None is NULL) and C longs."""
    function = getattr(library(), name)
    function.argtypes, function.restype = [ctypes.c_void_p] * arity, None
    return function


def _call(name: str, *arguments: Any) -> None:
    words = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
    _function(name, len(words))(*words)


def _suffix(dtype: torch.dtype) -> str:
    return "bf16" if dtype is torch.bfloat16 else "f32"


def _parts(tensors: Sequence[Tensor | None], widths: Sequence[int]) -> tuple[Any, int]:
    """Matrices as the kernels' `Part`s: address (NULL for None), width and stride of each."""
    words: list[int] = []
    for tensor, width in zip(tensors, widths, strict=True):
        words += (0, width, 0) if tensor is None else (tensor.data_ptr(), width, tensor.stride(0))
    return (ctypes.c_long * len(words))(*words), len(widths)


def serves(operand: torch.dtype) -> bool:
    """Whether products of such operands have a kernel on this processor."""
    loaded = library()
    return loaded is not None and (
        operand == torch.float32 or (operand == torch.bfloat16 and hasattr(loaded, "pack_bf16"))
    )


def pack(weight: Tensor, dtype: torch.dtype, columns: int, groups: int = 1) -> Tensor:
    """A matrix (N, K), float32, laid out for products x Wᵀ with x (B, columns): K and padding.

    groups: N falls into so many equal parts, each filled up with zero rows to whole panels.
    """
    loaded = library()
    assert loaded is not None
    n, k = weight.shape
    panel = loaded.panel()
    rows = groups * -(-(n // groups) // panel) * panel
    out = torch.empty(rows, columns, dtype=dtype)
    sizes = (n, k, *weight.stride(), groups, columns)
    _call(f"pack_{_suffix(dtype)}", *sizes, weight, out)
    return out


ALIGN = 16
"""Operands of products are padded to a multiple of this many columns."""


def aligned(columns: int) -> int:
    """So many columns, padded."""
    return -(-columns // ALIGN) * ALIGN


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


def _rows(part: Tensor) -> Tensor:
    return part if part.stride(1) == 1 else part.contiguous()


def _gradients(ctx: Any, like: Tensor, widths: Sequence[int], first: int) -> list[Tensor | None]:
    """Room for the gradients of those inputs, from the first-th argument on, that want one."""
    want = ctx.needs_input_grad[first:]
    return [torch.empty(len(like), n) if w else None for n, w in zip(widths, want, strict=True)]


class LSTMStep(torch.autograd.Function):
    """(weight, bias, unroll, c, *inputs, h) -> (h', c'): one step of an unrolled `recurrence.LSTM`.

    Product, bias and cell in one node; the gates are kept as activations, nothing else is.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, unroll: Any, c: Tensor, *parts: Tensor
    ) -> tuple[Tensor, Tensor]:
        keep, parts = not isinstance(ctx, Forget), tuple(_rows(p) for p in parts)
        x, c, widths = unroll.place(parts, keep), c.contiguous(), [p.shape[1] for p in parts]
        _check(c, x.shape[0], bias.shape[0] // 4)
        gates = x.new_empty(x.shape[0], bias.shape[0])
        h_next, c_next = torch.empty_like(c), torch.empty_like(c)
        given = (*c.shape, x.shape[1], *_parts(parts, widths), unroll.forward)
        _call(f"lstm_forward_{_suffix(x.dtype)}", *given, bias, c, x, gates, c_next, h_next)
        if keep:
            ctx.save_for_backward(x, gates, c, c_next, unroll.backward)
            ctx.rows, ctx.widths = unroll.rows, widths
        return h_next, c_next

    @staticmethod
    @first
    def backward(ctx: Any, dh: Tensor, dc: Tensor) -> tuple[Tensor | None, ...]:
        x, gates, c, c_next, weights = ctx.saved_tensors
        dgates, dc_prev = ctx.rows.gradient(x, aligned(gates.shape[1])), torch.empty_like(c)
        dparts = _gradients(ctx, c, ctx.widths, 4)
        given = (*c.shape, dgates.shape[1], gates, c, c_next, dh.contiguous(), dc.contiguous())
        made = (weights, dgates, dc_prev, *_parts(dparts, ctx.widths))
        _call(f"lstm_backward_{_suffix(x.dtype)}", *given, *made)
        ctx.rows.add(x)
        return None, None, None, dc_prev, *dparts


class Cell(torch.autograd.Function):
    """(gates (B, 4U) of either operand type, bias (4U,), c (B, U)) -> (h', c'); see recurrence.cell."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, bias: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        given, bias, c = given.contiguous(), bias.contiguous(), c.contiguous()
        _check(given, c.shape[0], 4 * c.shape[1])
        _check(bias, given.shape[1])
        gates, h_next, c_next = (torch.empty_like(t) for t in (given, c, c))
        name = f"cell_forward_{_suffix(given.dtype)}"
        _call(name, *c.shape, given, bias, c, gates, c_next, h_next)
        ctx.save_for_backward(gates, c, c_next)
        return h_next, c_next

    @staticmethod
    @first
    def backward(ctx: Any, dh: Tensor, dc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gates, c, c_next = ctx.saved_tensors
        dgates, dc_prev = torch.empty_like(gates), torch.empty_like(c)
        name = f"cell_backward_{_suffix(gates.dtype)}"
        given = (*c.shape, gates, c, c_next, dh.contiguous(), dc.contiguous())
        _call(name, *given, dgates, dc_prev)
        return dgates, dgates.sum(0, dtype=torch.float32), dc_prev


class LinearStep(torch.autograd.Function):
    """(weight, bias, unroll, *inputs) -> W x + b: one step of an unrolled `recurrence.Linear`."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, unroll: Any, *parts: Tensor) -> Tensor:
        keep, parts = not isinstance(ctx, Forget), tuple(_rows(p) for p in parts)
        x, widths = unroll.place(parts, keep), [p.shape[1] for p in parts]
        out = parts[0].new_empty(x.shape[0], bias.shape[0])
        given = (*out.shape, x.shape[1], *_parts(parts, widths), unroll.forward)
        _call(f"linear_forward_{_suffix(x.dtype)}", *given, bias, x, out)
        if keep:
            ctx.save_for_backward(x, unroll.backward)
            ctx.rows, ctx.widths = unroll.rows, widths
        return out

    @staticmethod
    @first
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        x, weights = ctx.saved_tensors
        dout = _rows(dout)
        g = ctx.rows.gradient(x, aligned(dout.shape[1]))
        dparts = _gradients(ctx, x, ctx.widths, 3)
        given = (*g.shape, _parts([dout], [dout.shape[1]])[0], weights, g)
        _call(f"linear_backward_{_suffix(x.dtype)}", *given, *_parts(dparts, ctx.widths))
        ctx.rows.add(x)
        return None, None, None, *dparts


class SampleAndKL(torch.autograd.Function):
    """(mu, log_sigma, eps), each (B, Z) -> z (B, Z), kl (B,) against N(0, I)."""

    @staticmethod
    def forward(ctx: Any, mu: Tensor, log_sigma: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        z, kl = torch.empty_like(eps), eps.new_empty(len(eps))
        _call("gaussian_forward", *eps.shape, mu.stride(0), mu, log_sigma, eps, z, kl)
        ctx.save_for_backward(mu, log_sigma, eps)
        return z, kl

    @staticmethod
    @first
    def backward(ctx: Any, dz: Tensor, dkl: Tensor) -> tuple[Tensor, Tensor, None]:
        mu, s, eps = ctx.saved_tensors
        dmu, ds = torch.empty_like(eps), torch.empty_like(eps)
        dz, dkl = dz.contiguous(), dkl.contiguous()
        _call("gaussian_backward", *eps.shape, mu.stride(0), mu, s, eps, dz, dkl, dmu, ds)
        return dmu, ds, None


class ErrorImage(torch.autograd.Function):
    """(x, logits) -> x - σ(logits), both of one shape; see probability.error_image."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, logits: Tensor) -> Tensor:
        x, logits = x.contiguous(), logits.contiguous()
        out = torch.empty_like(x)
        _call("error_forward", len(x), x[0].numel(), x, logits, out)
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    @first
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, Tensor]:
        x, out = ctx.saved_tensors
        d, dlogits = d.contiguous(), torch.empty_like(x)
        _call("error_backward", len(x), x[0].numel(), x, out, d, dlogits)
        return d if ctx.needs_input_grad[0] else None, dlogits


class Read(torch.autograd.Function):
    """(parameters, n, *images) -> glimpses (B, sum of channels, n, n); see attention.read."""

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, n: int, *images: Tensor) -> Tensor:
        parameters, images = parameters.contiguous(), tuple(x.contiguous() for x in images)
        batch, channels, height, width = images[0].shape
        count = len(images) * channels
        glimpse = parameters.new_empty(batch, count, n, n)
        filters = _filters(parameters, n, height, width)
        for k, x in enumerate(images):
            sizes = (batch, channels, height, width, n)
            place = (count * n * n, k * channels * n * n)
            _call("read_forward", *sizes, x, parameters, filters, int(k == 0), glimpse, *place)
        ctx.save_for_backward(parameters, filters, *images)
        ctx.n = n
        return glimpse

    @staticmethod
    @first
    def backward(ctx: Any, dglimpse: Tensor) -> tuple[Tensor | None, ...]:
        parameters, filters, *images = ctx.saved_tensors
        dglimpse, n = dglimpse.contiguous(), ctx.n
        count, channels = dglimpse.shape[1], images[0].shape[1]
        dimages: list[Tensor | None] = []
        total = torch.empty_like(parameters)
        for k, x in enumerate(images):
            dimage = torch.empty_like(x) if ctx.needs_input_grad[2 + k] else None
            place = (count * n * n, k * channels * n * n)
            given = (*x.shape, n, x, parameters, filters, dglimpse, *place)
            _call("read_backward", *given, dimage, total, int(k > 0))
            dimages.append(dimage)
        return total, None, *dimages


class Write(torch.autograd.Function):
    """(canvas, patch, parameters) -> canvas + write(patch); see attention.write."""

    @staticmethod
    def forward(ctx: Any, canvas: Tensor, patch: Tensor, parameters: Tensor) -> Tensor:
        canvas, n, (height, width) = canvas.contiguous(), patch.shape[-1], canvas.shape[-2:]
        dense = patch[0].is_contiguous() and parameters.stride(1) == 1
        if not dense or patch.stride(0) != parameters.stride(0):
            joined = torch.cat((patch.flatten(1), parameters), 1)
            patch = joined[:, :-5].view(patch.shape)
            parameters = joined[:, -5:]
        out, filters = torch.empty_like(canvas), _filters(canvas, n, height, width)
        sizes = (*canvas.shape, n, patch.stride(0))
        _call("write_forward", *sizes, patch, parameters, canvas, filters, out)
        ctx.save_for_backward(patch, parameters, filters)
        return out

    @staticmethod
    @first
    def backward(ctx: Any, dcanvas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        patch, parameters, filters = ctx.saved_tensors
        dcanvas = dcanvas.contiguous()
        dpatch, dparameters = dcanvas.new_empty(patch.shape), dcanvas.new_empty(parameters.shape)
        sizes = (*dcanvas.shape, patch.shape[-1], patch.stride(0))
        _call("write_backward", *sizes, patch, parameters, filters, dcanvas, dpatch, dparameters)
        return dcanvas, dpatch, dparameters


def read(images: Sequence[Tensor], parameters: Tensor, n: int) -> Tensor:
    """`attention.read`, fused."""
    _check(parameters, len(images[0]), 5)
    for x in images:
        _check(x, *images[0].shape)
    return apply(Read, parameters, n, *images)


def write(canvas: Tensor, patch: Tensor, parameters: Tensor) -> Tensor:
    """`attention.write`, fused."""
    _check(parameters, len(canvas), 5)
    _check(patch, *canvas.shape[:2], patch.shape[-1], patch.shape[-1])
    return apply(Write, canvas, patch, parameters)


def error_image(x: Tensor, logits: Tensor) -> Tensor:
    """`probability.error_image` of Bernoulli pixels, fused."""
    return apply(ErrorImage, x, logits)


def sample_and_kl(mu: Tensor, log_sigma: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """`probability.sample_and_kl` against N(0, I), fused."""
    _check(mu, *eps.shape)
    _check(log_sigma, *eps.shape)
    z, kl = apply(SampleAndKL, mu, log_sigma, eps)
    return z, kl
