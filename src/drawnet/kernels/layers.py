"""The layers' kernels during one sequence: weights packed once, gradients formed together."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from drawnet.kernels.compiled import apply, usable
from drawnet.kernels.packing import PackedWeights
from drawnet.kernels.recurrent import Cell, LinearStep, LSTMStep
from drawnet.nn.convolution import ConvLSTM
from drawnet.nn.recurrent import LSTM, Linear, Operands

WIDE = 64
"""Columns from which on an input that does not change is worth a product of its own."""


class LayerKernel:
    """Stands in for one layer's `forward`; inputs that it does not serve go to the formula."""

    def __init__(self, layer: Any, dtype: torch.dtype, steps: int) -> None:
        self.layer, self._outer = layer, list[Any]()

    def enter(self) -> None:
        """Take the place of the formula."""
        self._outer.append(vars(self.layer).get("forward"))
        vars(self.layer)["forward"] = self  # a module's own setattr is slow

    def leave(self) -> None:
        """Give it back."""
        if (outer := self._outer.pop()) is None:
            del vars(self.layer)["forward"]
        else:
            vars(self.layer)["forward"] = outer

    def formula(self, *inputs: Any) -> Any:
        """The layer's own `forward`."""
        return type(self.layer).forward(self.layer, *inputs)


class PackedKernel(LayerKernel):
    """… of a layer with packed weights."""

    groups: ClassVar[int] = 1
    """Equal parts of the outputs that are used together element by element."""

    def __init__(self, layer: Any, dtype: torch.dtype, steps: int) -> None:
        super().__init__(layer, dtype, steps)
        self.weights = PackedWeights(layer.weight, layer.bias, dtype, steps, self.groups)

    def enter(self) -> None:
        super().enter()
        self.weights.grads.block = None

    def leave(self) -> None:
        super().leave()
        if torch.is_grad_enabled():  # the backward pass has a packing of its own
            vars(self.weights).pop("forward", None)


class LinearKernel(PackedKernel):
    def __call__(self, *inputs: Tensor) -> Tensor:
        if not usable(*inputs):
            return self.formula(*inputs)
        w = self.weights
        return apply(LinearStep, w.weight, w.constant_bias, w, *inputs)


class LSTMKernel(PackedKernel):
    """… whose product with inputs that are the same at every step is taken once."""

    groups = 4

    def __init__(self, layer: LSTM, dtype: torch.dtype, steps: int) -> None:
        super().__init__(layer, dtype, steps)
        self.constant: frozenset[tuple[int, int]] = frozenset()
        """Addresses and widths of inputs that do not change while the sequence lasts."""
        self.apart: tuple[list[bool], PackedWeights, Tensor] | None = None
        """Which inputs were taken once; the other weights; what those add to the gates."""

    def leave(self) -> None:
        super().leave()
        self.apart = None

    def __call__(self, inputs: tuple[Tensor, ...], h: Tensor, c: Tensor) -> Any:
        if not usable(c, h, *inputs):
            return self.formula(inputs, h, c)
        w, shift, parts = self.weights, None, (*inputs, h)
        once = self.constant and [(p.data_ptr(), p.shape[1]) in self.constant for p in inputs]
        if any(once):
            once = [*once, False]
            if self.apart is None or self.apart[0] != once:
                self.apart = once, *self.taken_once(parts, once)
            _, w, shift = self.apart
            parts = tuple(p for p, fixed in zip(parts, once, strict=True) if not fixed)
        return apply(LSTMStep, w.weight, w.constant_bias, w, shift, c, *parts)

    def taken_once(
        self, parts: Sequence[Tensor], once: Sequence[bool]
    ) -> tuple[PackedWeights, Tensor]:
        """Return the weights of the inputs that change, and the product with those that do not."""
        columns = self.layer.weight.split([p.shape[1] for p in parts], 1)
        pairs = list(zip(parts, columns, once, strict=True))
        rest, whole = (
            torch.cat([w for _, w, k in pairs if k is kind], 1) for kind in (False, True)
        )
        bias, dtype, steps = self.layer.bias, self.weights.dtype, self.weights.grads.most
        w = PackedWeights(whole, torch.zeros_like(bias), dtype, 1)
        shift = apply(LinearStep, w.weight, w.constant_bias, w, *(p for p, _, k in pairs if k))
        return PackedWeights(rest, bias, dtype, steps, self.groups), shift


class ConvLSTMKernel(LayerKernel):
    def __call__(self, inputs: tuple[Tensor, ...], h: Tensor, c: Tensor) -> Any:
        if not usable(c, h, *inputs):
            return self.formula(inputs, h, c)
        gates = self.layer.gates.product(*inputs, h)
        # To a cell without neighbours, a grid of K channels is a row of K·H·W units.
        biases = self.layer.gates.bias[:, None].expand(-1, c[0, 0].numel()).flatten()
        new = apply(Cell, gates.flatten(1), biases, c.flatten(1))
        return tuple(t.view(c.shape) for t in new)


KERNELS: dict[type[nn.Module], type[LayerKernel]] = {
    Linear: LinearKernel, LSTM: LSTMKernel, ConvLSTM: ConvLSTMKernel,
}  # fmt: skip


class PackedSequence(Operands):
    """A sequence in which layers run their kernels; outside of it they run their formulas."""

    def __init__(
        self,
        model: nn.Module,
        dtype: torch.dtype,
        steps: int,
        layers: Sequence[nn.Module],
        lock: AbstractContextManager[Any] | None = None,
        constant: Sequence[Tensor] = (),
    ) -> None:
        """steps: how many are unrolled at a time, 0 for all; a new block begins with them.

        lock: the model's; another thread's sequence waits for this one to end.
        constant: tensors (B, …) that stay as they are; flattened, they may be inputs at every step.
        """
        super().__init__(model, dtype)
        self.lock = lock or nullcontext()
        self.kernels = [KERNELS[type(layer)](layer, dtype, steps) for layer in layers]
        wide = [t for t in constant if t[0].numel() >= WIDE]
        places = frozenset((t.data_ptr(), t[0].numel()) for t in wide)
        for kernel in self.kernels:
            if isinstance(kernel, LSTMKernel):
                kernel.constant = places

    def __enter__(self) -> None:
        self.lock.__enter__()
        super().__enter__()
        for kernel in self.kernels:
            kernel.enter()

    def __exit__(self, *exception: object) -> None:
        for kernel in self.kernels:
            kernel.leave()
        super().__exit__(*exception)
        self.lock.__exit__(None, None, None)
