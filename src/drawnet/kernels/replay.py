"""Record the kernel calls of a sequence once, and replay them in one call from Python.

An unrolled sequence is the same operations on the same places of memory whenever the sizes are the
same.  `Recording` runs it once with every operation written down: the kernels' calls as commands
(team.c), the few of PyTorch's in between as commands of rows.c or, where none serves, as they are.
Replayed, commands that stand in a row are one call, in which each thread does its rows of all
steps and waits for nobody: what a CUDA graph is, on a CPU.

A recording is used only if it gives, on other inputs, every value and gradient of the operations
themselves, bit for bit.
"""

import ctypes
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from drawnet.kernels import compiled

WHOLE = ("pack_", "gradient_")
"""Kernels whose rows are not images: nothing else runs beside them."""
ALLOCATIONS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
UNFIT = (
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
    torch.Tag.nondeterministic_seeded,
)
"""Operations whose results a recording cannot repeat."""
Function = Callable[..., tuple[Tensor, ...]]


class Unfit(Exception):
    """A sequence that cannot be replayed, and why."""


class Tape(TorchDispatchMode):
    """What a function does, written down while it runs inside `with tape:`."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch
        self.kept: list[Any] = []
        self.storages: dict[int, Any] = {}
        self.free: dict[Any, list[Any]] = {}
        """Storages of rows by shape and type: one that nobody holds any more is given again."""
        self.parts: list[Any] = []
        """In turn: lists of commands that may run as one, and operations of PyTorch."""
        self._whole = False

    def __enter__(self) -> "Tape":
        compiled.listeners.all.append(self)
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        compiled.listeners.all.remove(self)

    def command(self, name: str, words: Sequence[int], arguments: Sequence[Any]) -> None:
        """Write down a kernel's call; what its arguments point to stays."""
        self._hold(arguments)
        whole = name.startswith(WHOLE) or words[1] != self.batch
        if not (self.parts and isinstance(self.parts[-1], list)) or whole or self._whole:
            self.parts.append([])
        self._whole = whole
        self.parts[-1] += [*words, *[0] * (compiled.command_length() - len(words))]

    def _hold(self, values: Any) -> None:
        """Keep the storages of tensors, not the tensors: see `_given_again`."""
        for t in _tensors(values):
            storage = t.untyped_storage()
            self.storages[storage.data_ptr()] = storage
        self.kept += [a for a in values if isinstance(a, ctypes.Array)]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(tag in func.tags for tag in UNFIT):
            raise Unfit(str(func))
        out, name = func(*args, **kwargs), func.overloadpacket.__name__
        if name in ALLOCATIONS:
            return self._given_again(out)
        made = _tensors(out)
        self._hold((args, kwargs, out))
        writes = any(
            a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments
        )
        places = {t.untyped_storage().data_ptr() for t in _tensors((args, kwargs))}
        views = all(t.untyped_storage().data_ptr() in places for t in made)
        if name == "set_" or (views and not writes):
            return out
        if not self._rowwise(name, args, kwargs, made):
            self.parts.append(_again(func, args, kwargs, None if writes else made))
        return out

    def _given_again(self, new: Tensor) -> Tensor:
        """Return room as new, in a storage that is no longer used if there is one of that shape.

        Of one shape, so that a row lies where a row of the same thread's lay: threads do not wait.
        """
        kind = (new.shape, new.stride(), new.dtype, new.device)
        pool = self.free.setdefault(kind, [])
        if new.dim() and new.shape[0] == self.batch:
            for storage in pool:
                if torch._C._storage_Use_Count(storage._cdata) == 1:
                    return new.new_empty(0).set_(storage, 0, new.shape, new.stride())
        pool.append(new.untyped_storage())
        return new

    def _rowwise(self, name: str, args: tuple[Any, ...], kwargs: Any, made: list[Tensor]) -> bool:
        """Write down an operation as commands of rows.c, if it is one of theirs."""
        if len(made) != 1 or not self._rows(made[0]):
            return False
        out, inputs = made[0], _tensors(args)
        whole = all(self._rows(t) and t.shape == out.shape for t in inputs)
        width, ends = out[0].numel(), (out, out.stride(0))
        if name in ("zeros", "zeros_like", "new_zeros", "zero_"):
            self._row_command("zero_rows", width, *ends)
        elif name in ("add", "add_") and whole and len(inputs) == 2 and not kwargs:
            a, b = inputs
            self._row_command("add_rows", width, a, a.stride(0), b, b.stride(0), *ends)
        elif name in ("clone", "copy_") and whole and len(args) <= 2:
            source = inputs[-1]
            self._row_command("copy_rows", width, source, source.stride(0), *ends)
        elif name == "cat" and len(args) == 2 and args[1] in (1, 1 - out.dim()):
            parts = [t for t in inputs if t.numel()]
            if not all(self._rows(t) for t in parts):
                return False
            at = out.data_ptr()
            for t in parts:
                n = t[0].numel()
                self._row_command("copy_rows", n, t, t.stride(0), at, out.stride(0))
                at += n * t.element_size()
        else:
            return False
        return True

    def _row_command(self, name: str, *arguments: Any) -> None:
        self.command(name, compiled.words(name, self.batch, arguments), arguments)

    def _rows(self, t: Tensor) -> bool:
        """Whether t is float32 rows, one an image, each in one piece."""
        if t.dtype != torch.float32 or t.device.type != "cpu" or not t.dim() or not t.numel():
            return False
        return t.shape[0] == self.batch and t[0].is_contiguous()

    def seal(self) -> "Tape":
        """End the recording."""
        self.parts = [
            (ctypes.c_long * len(p))(*p) if isinstance(p, list) else p for p in self.parts
        ]
        return self

    def replay(self) -> None:
        """Do again what was done, with what now stands in the same places."""
        for part in self.parts:
            if isinstance(part, ctypes.Array):
                compiled.run(part)
            else:
                part()


def _again(func: Any, args: Any, kwargs: Any, made: list[Tensor] | None) -> Callable[[], None]:
    def again() -> None:
        out = func(*args, **kwargs)
        for old, new in zip(made or (), _tensors(out), strict=False):
            old.copy_(new)

    return again


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [t for part in value for t in _tensors(part)]
    return []


class Recording:
    """A function of tensors, recorded: its values, and gradients by its inputs and parameters."""

    def __init__(
        self, function: Function, inputs: Sequence[Tensor], parameters: Sequence[Tensor]
    ) -> None:
        """Raise `Unfit` if the recording does not give what the function does."""
        seeds, expected = self._expected(function, inputs, parameters)
        self.inputs = [_leaf(t.clone(memory_format=torch.contiguous_format), t) for t in inputs]
        self.forward = Tape(inputs[0].shape[0])
        with self.forward:
            outputs = function(*self.inputs)
        self.forward.seal()
        self.outputs = [t.detach() for t in outputs]
        self.differentiable = [t.requires_grad for t in outputs]
        self.seeds = [torch.ones_like(t) for t in self.outputs]
        self.backward: Tape | None = None
        self.gradients: list[Tensor | None] = []
        if torch.is_grad_enabled():
            self.backward = Tape(inputs[0].shape[0])
            with self.backward:
                self.gradients = _gradients(outputs, (*self.inputs, *parameters), self.seeds)
            self.backward.seal()
        self.user: weakref.ref[Any] | None = None
        self.lock = threading.Lock()
        self.run([t.detach().flip(0) for t in inputs])
        if self.backward:
            self.run_backward(seeds)
        for ours, theirs in zip((*self.outputs, *self.gradients), expected, strict=True):
            if ours is not theirs and (ours is None or theirs is None or not ours.equal(theirs)):
                raise Unfit("a replay gives other numbers")

    @staticmethod
    def _expected(
        function: Function, inputs: Sequence[Tensor], parameters: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """Gradients of the outputs, and what the function gives on inputs that are not recorded."""
        other = [_leaf(t.flip(0), t) for t in inputs]
        outputs = function(*other)
        seeds = [torch.linspace(-1, 1, max(t.numel(), 1))[: t.numel()].view_as(t) for t in outputs]
        values: list[Tensor | None] = [t.detach() for t in outputs]
        if torch.is_grad_enabled():
            values += _gradients(outputs, (*other, *parameters), seeds)
        return seeds, values

    def run(self, inputs: Sequence[Tensor]) -> None:
        """Compute the outputs."""
        with torch.no_grad():
            for place, value in zip(self.inputs, inputs, strict=True):
                place.copy_(value)
            self.forward.replay()

    def run_backward(self, seeds: Sequence[Tensor | None]) -> None:
        """Compute the gradients from those of the outputs."""
        assert self.backward is not None
        with torch.no_grad():
            for place, value in zip(self.seeds, seeds, strict=True):
                place.zero_() if value is None else place.copy_(value)
            self.backward.replay()


def _leaf(value: Tensor, like: Tensor) -> Tensor:
    return value.detach().requires_grad_(like.requires_grad)


def _gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], seeds: Sequence[Tensor]
) -> list[Tensor | None]:
    """Gradients by all inputs; None for those that want none."""
    pairs = [(o, s) for o, s in zip(outputs, seeds, strict=True) if o.requires_grad]
    wanted = [t for t in inputs if t.requires_grad]
    ends, starts = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(ends, wanted, starts, allow_unused=True))
    return [next(found) if t.requires_grad else None for t in inputs]


class _User:
    """One forward pass that still may want its backward pass."""


class Replayed(torch.autograd.Function):
    """(recording, *inputs, *parameters) -> outputs: one node for a whole sequence."""

    @staticmethod
    def forward(ctx: Any, recording: Recording, *tensors: Tensor) -> tuple[Tensor, ...]:
        recording.run(tensors[: len(recording.inputs)])
        ctx.recording, ctx.user = recording, _User()
        recording.user = weakref.ref(ctx.user)
        ctx.set_materialize_grads(False)
        outputs = tuple(t.clone() for t in recording.outputs)
        fixed = [t for t, d in zip(outputs, recording.differentiable, strict=True) if not d]
        ctx.mark_non_differentiable(*fixed)
        return outputs

    @staticmethod
    @compiled.once_differentiable
    def backward(ctx: Any, *seeds: Tensor | None) -> tuple[Tensor | None, ...]:
        recording = ctx.recording
        with recording.lock:
            if recording.user is None or recording.user() is not ctx.user:
                raise RuntimeError("the sequence was replayed again before this backward pass")
            recording.run_backward(seeds)
            return None, *(None if g is None else g.clone() for g in recording.gradients)


MOST = 4
"""Recordings that a model keeps: each holds the memory of its sequence."""


class Recordings:
    """The recordings of one function of a model, by the sizes of its inputs; made when they return."""

    def __init__(self, function: Function, model: nn.Module) -> None:
        self.function, self.model = function, model
        self.known: dict[Any, Recording | str | None] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return what the function does, replayed where that can be."""
        parameters = list(self.model.parameters())
        key = (
            (torch.is_grad_enabled(), self.model.training, self.model.precision),
            *((t.shape, t.requires_grad) for t in inputs),
            *((p.data_ptr(), p.requires_grad) for p in parameters),
            *(b.data_ptr() for b in self.model.buffers()),
        )
        if key not in self.known:  # sizes that come once are not worth a recording
            self.known[key] = None
            for old in list(self.known)[:-MOST]:
                del self.known[old]
            return self.function(*inputs)
        if self.known[key] is None:
            try:
                self.known[key] = Recording(self.function, inputs, parameters)
            except Unfit as why:
                self.known[key] = str(why)
        recording = self.known[key]
        if not isinstance(recording, Recording):
            return self.function(*inputs)
        if recording.user is not None and recording.user() is not None:
            return self.function(*inputs)  # another pass still wants its numbers
        if not recording.lock.acquire(blocking=False):
            return self.function(*inputs)  # another thread is at work in it
        try:
            if torch.is_grad_enabled():
                return Replayed.apply(recording, *inputs, *parameters)
            recording.run(inputs)
            return tuple(t.clone() for t in recording.outputs)
        finally:
            recording.lock.release()
