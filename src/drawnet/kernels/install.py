"""Put kernels in place of a model's layers and operations, each after a comparison with the formula.

The formulas of `nn` and `models` define what is computed.  A kernel replaces one of them in one
model, as an attribute of that instance, and only if it gives the formula's values and gradients on
a small random batch.  It stands back wherever it does not: an equation was changed, a compiler
erred, the device or the number type has no kernel.
"""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from drawnet.kernels import attention, distributions
from drawnet.kernels.compiled import OFF, library, serves, usable
from drawnet.kernels.layers import KERNELS, PackedSequence
from drawnet.kernels.replay import Recordings
from drawnet.nn.convolution import ConvLSTM
from drawnet.nn.distributions import Bernoulli, Gaussian, Pixels
from drawnet.nn.recurrent import LSTM, Operands
from drawnet.nn.tracing import traced

KERNEL = "kernel"
"""What `install` reports of a part that was replaced."""
BATCH = 4
"""Images of a comparison."""
REPLAYED = 8
"""Steps that are replayed at a time where no gradient is wanted."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Largest relative difference that rounding explains."""


def install(model: nn.Module) -> dict[str, str]:
    """Replace what kernels compute as the formulas do; return what serves each part, by name.

    Values are 'kernel', or why the formula stays.  A kernel that differs from its formula, a
    library that cannot be compiled and a model that is not on the CPU are warnings of one line.
    Parts that a class outside drawnet defines are never replaced.  Installing again compares again.
    """
    uninstall(model)
    accelerator = Accelerator(model)
    names = [*accelerator.layers, *accelerator.operations]
    if not names:
        return {}
    if elsewhere := {p.device.type for p in model.parameters()} - {"cpu"}:
        line = f"kernels are for the CPU: formulas serve the model on {', '.join(elsewhere)}"
        warnings.warn(line, stacklevel=2)
        return dict.fromkeys(names, line)
    loaded = library()
    if isinstance(loaded, str):
        if loaded != OFF:
            warnings.warn(f"kernels are off, formulas serve, slower: {loaded}", stacklevel=2)
        return dict.fromkeys(names, loaded)
    if not usable(*model.parameters()):
        kinds = ", ".join(sorted({str(p.dtype) for p in model.parameters()}))
        return dict.fromkeys(names, f"kernels take float32, the weights are {kinds}")
    report = accelerator.compare()
    for name, found in report.items():
        if found != KERNEL:
            line = f"kernels: {name} is not what its kernel computes ({found}): the formula stays"
            warnings.warn(line, stacklevel=2)
    accelerator.attach()
    return report


def uninstall(model: nn.Module) -> None:
    """Leave a model its formulas alone."""
    for name, value in list(vars(model).items()):
        if _is_ours(value):
            del vars(model)[name]


def _is_ours(value: Any) -> bool:
    """Whether it is a method of an accelerator."""
    return isinstance(getattr(value, "__self__", None), Accelerator)


def _as_written(model: nn.Module) -> bool:
    """Whether nothing of a user's looks into the model's sequence: a replay would pass it by.

    That is a class of a user's own, a method replaced in one model, a hook on a layer.
    """
    ours = type(model).__module__.partition(".")[0] == "drawnet"
    replaced = (
        callable(getattr(type(model), name, None)) and not _is_ours(value)
        for name, value in vars(model).items()
    )
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooked = (getattr(m, hook) for m in model.modules() for hook in hooks)
    return ours and not any(replaced) and not any(hooked)


class Accelerator:
    """A model's kernels; methods stand in for the model's methods of the same names."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.layers = {name: m for name, m in model.named_modules() if type(m) in KERNELS}
        self.operations = [name for name in OPERATIONS if _defined_here(model, name)]
        self.recordings: dict[type, Recordings] = {}
        self.lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy of the model takes along: not the recordings, which are of this one's memory."""
        return {name: vars(self)[name] for name in ("model", "layers", "operations")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, recordings={}, lock=threading.RLock())

    def attach(self) -> None:
        """Take the places of what was compared, and of the sequence's context."""
        whole = [name for name in ("unrolled", "unroll") if hasattr(self.model, name)]
        for name in (*whole, *self.operations):
            vars(self.model)[name] = getattr(self, name)

    def formula(self, name: str) -> Callable[..., Any]:
        """The model's own method."""
        return partial(getattr(type(self.model), name), self.model)

    # ---- what runs ------------------------------------------------------------------------------

    def unrolled(
        self, steps: int = 0, constant: Sequence[Tensor] = ()
    ) -> AbstractContextManager[Any]:
        """`Model.unrolled`, in which layers run their kernels; constant: see `PackedSequence`."""
        layers, dtype = list(self.layers.values()), self.model.precision or torch.float32
        if usable(*(p for layer in layers for p in layer.parameters())) and serves(dtype):
            return PackedSequence(self.model, dtype, steps, layers, self.lock, constant)
        return self.formula("unrolled")(steps)

    def unroll(self, x: Tensor, eps: Tensor, state: Any) -> tuple[Tensor, Any]:
        """`StepModel.unroll`, replayed: all steps at once, or without gradients a few at a time."""
        plain = not traced() and _as_written(self.model)
        if not (plain and self.layers and usable(x, eps, *state)):
            return self.formula("unroll")(x, eps, state)
        kind = type(state)
        recordings = self.recordings.setdefault(kind, self._recordings(kind))
        rates = []
        for noise in eps.split(len(eps) if torch.is_grad_enabled() else REPLAYED):
            rate, *parts = recordings(x, noise, *state)
            state = kind(*parts)
            rates.append(rate)
        return torch.cat(rates), state

    def _recordings(self, kind: type) -> Recordings:
        def unroll(x: Tensor, eps: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
            state = kind(*parts)
            observed = [getattr(state, name) for name in self.model.observed]
            with self.unrolled(constant=[x, *observed]):
                rate, state = self.formula("unroll")(x, eps, state)
            return rate, *state

        return Recordings(unroll, self.model)

    def read(self, images: Sequence[Tensor], window: Tensor) -> Tensor:
        """`nn.attention.read`, fused."""
        n = self.model.config.read
        if usable(*images, window) and attention.small(images[0], n):
            return attention.read(images, window, n)
        return self.formula("read")(images, window)

    def write(self, canvas: Tensor, patch: Tensor, window: Tensor) -> Tensor:
        """`nn.attention.write`, fused."""
        if usable(canvas, patch, window) and attention.small(canvas, patch.shape[-1]):
            return attention.write(canvas, patch, window)
        return self.formula("write")(canvas, patch, window)

    def error_image(self, x: Tensor, p: Pixels) -> Tensor:
        """`nn.distributions.error_image` of Bernoulli pixels, fused."""
        if isinstance(p, Bernoulli) and x.shape == p.logits.shape and usable(x, p.logits):
            return distributions.error_image(x, p.logits)
        return self.formula("error_image")(x, p)

    def relative_posterior(self, d: Gaussian, p: Gaussian | None) -> Gaussian:
        """`nn.distributions.relative_posterior`, fused."""
        if p and usable(*d, *p) and distributions.in_rows(*d) and distributions.in_rows(*p):
            return Gaussian(*distributions.relative_posterior(d, p))
        return self.formula("relative_posterior")(d, p)

    def sample_and_kl(self, q: Gaussian, p: Gaussian | None, eps: Tensor) -> tuple[Tensor, Tensor]:
        """`nn.distributions.sample_and_kl`, fused."""
        parts = [g for g in (q, p) if g is not None]
        if usable(eps, *(t for g in parts for t in g)) and all(
            distributions.in_rows(*g) for g in parts
        ):
            return distributions.sample_and_kl(q, p, eps.contiguous())
        return self.formula("sample_and_kl")(q, p, eps)

    # ---- the comparison -------------------------------------------------------------------------

    def compare(self) -> dict[str, str]:
        """Hold every kernel against its formula as it stands; only those that agree remain."""
        report = {}
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            for name, layer in list(self.layers.items()):
                if (found := _compare_layer(layer)) != KERNEL:
                    del self.layers[name]
                report[name] = found
            for name in list(self.operations):
                pair, inputs = (
                    (self.formula(name), getattr(self, name)),
                    OPERATIONS[name](self.model),
                )
                if (found := _compare(*pair, inputs, TOLERANCE[torch.float32])) != KERNEL:
                    self.operations.remove(name)
                report[name] = found
        return report


def _defined_here(model: nn.Module, name: str) -> bool:
    """Whether it is drawnet that defines this method of the model, and the model makes use of it."""
    if name in ("read", "write") and not getattr(getattr(model, "config", None), name, 0):
        return False
    if name == "relative_posterior" and not _learned_prior(model):
        return False
    owners = (kind for kind in type(model).__mro__ if name in vars(kind))
    return next(owners, object).__module__.partition(".")[0] == "drawnet"


@torch.no_grad()
def _learned_prior(model: Any) -> bool:
    """Whether it draws in steps, by a prior that is not N(0, I)."""
    if not hasattr(model, "relative_posterior"):
        return False
    return model.prior(model.start(torch.zeros(1, model.classes, device=model.device))) is not None


def _compare_layer(layer: nn.Module) -> str:
    """Two steps of a layer with its kernel and without, in every number type that has kernels.

    And two more, in which the first input is known to be the same at both.
    """

    def stepped(*contexts: AbstractContextManager[Any]) -> Callable[..., list[Any]]:
        def run(*inputs: Any) -> list[Any]:
            found = []
            for context in contexts:
                with context:
                    found += [layer(*inputs), layer(*inputs)]
            return found

        return run

    for dtype in (kind for kind in TOLERANCE if serves(kind)):
        inputs, weights = _layer_inputs(layer), tuple(layer.parameters())
        first = [next(_tensors(inputs))]
        formula = stepped(*2 * [Operands(layer, dtype)])
        kernel = stepped(
            *(PackedSequence(layer, dtype, 0, [layer], constant=c) for c in ([], first))
        )
        if (found := _compare(formula, kernel, inputs, TOLERANCE[dtype], weights)) != KERNEL:
            return found
    return KERNEL


def _compare(
    formula: Callable[..., Any],
    kernel: Callable[..., Any],
    inputs: tuple[Any, ...],
    tolerance: float,
    weights: tuple[Tensor, ...] = (),
) -> str:
    """'kernel' if values and gradients agree, else what differs and by how much."""
    wanted = [t for t in (*_tensors(inputs), *weights) if t.requires_grad]
    try:
        values = [list(_tensors(function(*inputs))) for function in (formula, kernel)]
        if [v.shape for v in values[0]] != [v.shape for v in values[1]]:
            return "other shapes"
        seeds = [torch.randn_like(v) for v in values[0]]
        gradients = [torch.autograd.grad(v, wanted, seeds, allow_unused=True) for v in values]
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as why:
        return f"{type(why).__name__}: {why}".splitlines()[0]
    for what, (ours, theirs) in (("values", values), ("gradients", gradients)):
        pairs = zip(ours, theirs, strict=True)
        off = max(_distance(a, b, by_image=not weights) for a, b in pairs)
        if not off <= tolerance:
            return f"{what} off by {off:.2g}"
    return KERNEL


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and named tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


def _distance(formula: Tensor | None, kernel: Tensor | None, by_image: bool) -> float:
    """Norm of the difference relative to the larger norm, of the worst image or of all."""
    if formula is None or kernel is None:  # no gradient is a gradient of zeros
        rest = formula if kernel is None else kernel
        return 0.0 if rest is None else float(rest.abs().max())
    rows = [t.detach().reshape(len(t) if by_image else 1, -1) for t in (formula, kernel)]
    size = torch.maximum(*(row.norm(dim=1) for row in rows))
    return float(((rows[0] - rows[1]).norm(dim=1) / (size + 1e-6)).max())


def _layer_inputs(layer: Any) -> tuple[Any, ...]:
    """Random inputs of a layer, the first in two parts where it can be."""
    units = len(layer.gates.bias if isinstance(layer, ConvLSTM) else layer.bias) // 4
    grid = (3, 3) if isinstance(layer, ConvLSTM) else ()
    weight = layer.gates.weight if isinstance(layer, ConvLSTM) else layer.weight
    recurrent = isinstance(layer, ConvLSTM | LSTM)
    width = weight.shape[1] - units * recurrent
    sizes = [width // 2, width - width // 2] if width > 1 else [width]
    parts = tuple(torch.randn(BATCH, n, *grid, requires_grad=True) for n in sizes)
    if not recurrent:
        return parts
    return parts, *(torch.randn(BATCH, units, *grid, requires_grad=True) for _ in range(2))


def _windows() -> Tensor:
    """Parameters of one ordinary window, a small and a large one, and one beyond the clamps."""
    raw = torch.randn(BATCH, 5) * torch.tensor([[0.3], [0.5], [1.0], [1.0]])
    raw[1, 2:4], raw[2, 2:4], raw[3, 2:] = -2.0, 1.0, torch.tensor([14.0, -13.0, 13.0])
    return raw.requires_grad_()


def _images(model: Any, channels: int) -> Tensor:
    return torch.rand(BATCH, channels, *model.shape[1:], requires_grad=True)


def _read_inputs(model: Any) -> tuple[Any, ...]:
    return (_images(model, model.shape[0]), _images(model, model.shape[0])), _windows()


def _write_inputs(model: Any) -> tuple[Any, ...]:
    n, channels = model.config.write, model.canvas_shape[0]
    patch = torch.randn(BATCH, channels, n, n, requires_grad=True)
    return _images(model, channels), patch, _windows()


def _error_inputs(model: Any) -> tuple[Any, ...]:
    logits = torch.randn(BATCH, *model.shape, requires_grad=True)
    return _images(model, model.shape[0]), Bernoulli(logits)


def _gaussian(model: Any) -> Gaussian:
    """The halves of one map's output."""
    first, *rest = model.latents
    return Gaussian(*torch.randn(BATCH, 2 * first, *rest, requires_grad=True).chunk(2, 1))


def _latent_inputs(model: Any) -> tuple[Any, ...]:
    p = _gaussian(model) if _learned_prior(model) else None
    return _gaussian(model), p, torch.randn(BATCH, *model.latents)


def _relative_inputs(model: Any) -> tuple[Any, ...]:
    return _gaussian(model), _gaussian(model)


OPERATIONS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "read": _read_inputs, "write": _write_inputs,
    "error_image": _error_inputs, "sample_and_kl": _latent_inputs,
    "relative_posterior": _relative_inputs,
}  # fmt: skip
"""Methods of a model that have a kernel, and random inputs for each."""
