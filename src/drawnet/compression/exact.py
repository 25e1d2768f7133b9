"""Evaluate a model to the same bits everywhere, whatever the batch, the threads and the library.

`with Exact(model):` the formulas of a float64 model run as they stand, but

products   of operands rounded to integers of so few bits, times a power of two for each row, that
           every partial sum is an integer below 2⁵³: float64 holds it exactly, no order of summation
           makes a difference, and the library's fast products serve
sums       in the order of a fixed tree
e^x        2ⁿ eʳ, |r| <= ½ ln 2, eʳ by a polynomial to 2e-10; σ and tanh are made of it
+ - · /    rounded once, as IEEE 754 wants it: the same on every machine

An operation that is none of these has no exact form and is refused.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from drawnet.errors import UserError

aten = torch.ops.aten

MANTISSA = 53
TAYLOR = [1 / math.factorial(k) for k in range(8, -1, -1)]
"""Coefficients of eʳ, the highest power first."""


def power_of_two(n: Tensor) -> Tensor:
    """2ⁿ of integers -1022..1023 as float64, by its exponent bits."""
    return ((n + 1023) << 52).view(torch.float64)


def to_integers(x: Tensor, dim: int, bits: int) -> tuple[Tensor, Tensor]:
    """(k, s): x ≈ k s with integers |k| <= 2^bits and powers of two s, one for all along `dim`."""
    top = x.abs().amax(dim, keepdim=True).clamp_min(2.0**-200)
    exponent = (top.view(torch.int64) >> 52) - 1022  # top < 2^exponent
    return (x * power_of_two(bits - exponent)).round_(), power_of_two(exponent - bits)


def operand_bits(length: int) -> int:
    """Bits of an operand such that sums of `length` products are below 2⁵³."""
    return (MANTISSA - math.ceil(math.log2(max(length, 1)))) // 2


def exp(x: Tensor) -> Tensor:
    """e^x, to 2e-10 relative; x is held in ±700."""
    x = x.clamp(-700, 700)
    n = (x * (1 / math.log(2))).round_()
    r = x - n * math.log(2)
    p = r * TAYLOR[0]
    for coefficient in TAYLOR[1:-1]:
        p.add_(coefficient).mul_(r)
    return p.add_(TAYLOR[-1]).mul_(power_of_two(n.long()))


def sigmoid(x: Tensor) -> Tensor:
    return 1 / exp(-x).add_(1)


def tanh(x: Tensor) -> Tensor:
    return 1 - 2 / exp(2 * x).add_(1)


def tree_sum(x: Tensor, dim: int) -> Tensor:
    """Σ along a dimension, which is kept: halves are added to each other until one number is left."""
    while (n := x.shape[dim]) > 1:
        half = n // 2
        ends = x.narrow(dim, 0, half) + x.narrow(dim, half, half)
        x = torch.cat((ends, x.narrow(dim, 2 * half, 1)), dim) if n % 2 else ends
    return x


def softmax(x: Tensor, dim: int, _: bool = False) -> Tensor:
    e = exp(x - x.amax(dim, keepdim=True))
    return e / tree_sum(e, dim)


def sums(x: Tensor, dims: list[int] | None = None, keepdim: bool = False) -> Tensor:
    axes = sorted({d % x.dim() for d in dims} if dims else range(x.dim()), reverse=True)
    for dim in axes:
        x = tree_sum(x, dim)
        x = x if keepdim else x.squeeze(dim)
    return x


def scaled(x: Tensor, y: Tensor, alpha: float) -> Tensor:
    """x + alpha y, rounded twice where the library may round once."""
    return x + (y if alpha == 1 else y * alpha)


def power(x: Tensor, n: float) -> Tensor:
    if n != 2:
        raise UserError(f"x to the power of {n} has no exact form: this model cannot code images")
    return x * x


def lerp(x: Tensor, y: Tensor, weight: Tensor | float) -> Tensor:
    return x + (y - x) * weight


REPLACED: dict[Any, Callable[..., Tensor]] = {
    aten.exp: exp,
    aten.sigmoid: sigmoid,
    aten.tanh: tanh,
    aten._softmax: softmax,
    aten.sum: sums,
    aten.pow: power,
    aten.lerp: lerp,
    aten.add: lambda x, y, alpha=1: scaled(torch.as_tensor(x), y, alpha),
    aten.sub: lambda x, y, alpha=1: scaled(torch.as_tensor(x), y, -alpha),
    aten.rsub: lambda x, y, alpha=1: y - (x if alpha == 1 else x * alpha),
}
ROUNDED_ONCE = {
    aten.mul, aten.div, aten.neg, aten.abs, aten.relu, aten.clamp, aten.clamp_min, aten.clamp_max,
    aten.maximum, aten.minimum, aten.where, aten.eq, aten.ne, aten.lt, aten.le, aten.gt, aten.ge,
    aten.floor, aten.round, aten.reciprocal, aten.amax,
}  # fmt: skip
MOVED = {
    aten.cat, aten.stack, aten.clone, aten._to_copy, aten.arange, aten.zeros, aten.zeros_like,
    aten.new_zeros, aten.ones_like, aten.empty, aten.full, aten._unsafe_view, aten.pixel_shuffle,
    aten.index, aten.index_put_, aten.gather, aten.repeat, aten.constant_pad_nd, aten.copy_, aten.fill_,
    aten.zero_, aten.lift_fresh, aten._local_scalar_dense, aten.new_empty, aten.split,
    aten.unbind, aten.isfinite, aten.all, aten._reshape_alias,
}  # fmt: skip


def _of_integers(arguments: Any) -> bool:
    """Whether an operation's tensors are none of floating point."""
    found = [a for a in arguments if isinstance(a, Tensor)]
    return bool(found) and not any(a.is_floating_point() for a in found)


class Exact(TorchDispatchMode):
    """The context in which a float64 model gives the same bits everywhere.

    UserError for an operation of the model that has no exact form.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.known: dict[Any, tuple[Tensor, Tensor]] = {}
        self.products: dict[Any, Callable[..., Tensor]] = {
            aten.mm: self.product,
            aten.bmm: self.product,
            aten.addmm: lambda bias, a, b: bias + self.product(a, b),
            aten.convolution: self.convolution,
        }

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket
        if own := self.products.get(name) or REPLACED.get(name):
            return own(*args, **(kwargs or {}))
        if name in ROUNDED_ONCE or name in MOVED or function.is_view or _of_integers(args):
            return function(*args, **(kwargs or {}))
        raise UserError(f"{name} has no exact form: this model cannot code images")

    def integers(self, x: Tensor, dim: int, bits: int) -> tuple[Tensor, Tensor]:
        """`to_integers`, once for a weight."""
        if x.untyped_storage().data_ptr() not in self.weights:
            return to_integers(x, dim, bits)
        key = (x.data_ptr(), x.shape, x.stride(), dim, bits)
        if key not in self.known:
            self.known[key] = to_integers(x, dim, bits)
        return self.known[key]

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """(…, M, K) · (…, K, N), every partial sum exact."""
        bits = operand_bits(a.shape[-1])
        (left, scale), (right, other) = self.integers(a, -1, bits), self.integers(b, -2, bits)
        found: Tensor = left @ right
        return found.mul_(scale).mul_(other)

    def convolution(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, *rest: Any
    ) -> Tensor:
        """A convolution as a product with its patches, (B, in · kernel², places)."""
        dilation, transposed, _, groups = rest
        if transposed or groups != 1:
            raise UserError("convolutions in groups or transposed have no exact form")
        sides = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True
            )
        ]
        patches = F.unfold(x, weight.shape[2:], dilation, padding, stride)
        y: Tensor = self.product(weight.flatten(1), patches).unflatten(-1, sides)
        return y if bias is None else y + bias[:, None, None]
