"""What a model needs of a machine's memory, estimated before it is built.

The parameters are those of the model on PyTorch's meta device, where tensors have shapes and no
values.  The activations are what the backward pass of one batch keeps there.  A model whose code
looks at values cannot run there, and is counted by its parameters alone.
"""

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drawnet import models
from drawnet.errors import UserError
from drawnet.models.base import LossOptions, Model
from drawnet.training.config import Run

IMAGES = 64
"""Images that a command draws at a time."""
LENGTHS = ("steps", "glimpses", "walk_back", "chain")
"""Settings of models that say over how many steps they are unrolled."""
COPIES = {"adam": 5, "adagrad": 4, "sgd": 4}
"""Of the weights in training: model, average, gradient, and what the optimiser keeps."""
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or its control group's.

    Windows does not say how much the machine has; there the limit is what 64 bits address.
    """
    found = [sys.maxsize]
    with contextlib.suppress(AttributeError, ValueError, OSError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in map(Path, LIMITS):
        with contextlib.suppress(OSError, ValueError):  # none, or "max"
            found.append(int(path.read_text()))
    return min(found)


def outline(config: Any, shape: tuple[int, int, int]) -> Model:
    """Build a model without memory for its weights; UserError if these could not even be counted.

    A model of a user's own that cannot be built so is built as it is.
    """
    try:
        with torch.device("meta"):
            return models.build(config, shape)  # type: ignore[no-any-return]
    except (RuntimeError, OverflowError, TypeError) as why:
        if "verflow" not in str(why) and "too large" not in str(why):
            return models.build(config, shape)  # type: ignore[no-any-return]
        raise UserError(f"{what(config)}: its weights are more than any machine holds") from why


def what(config: Any) -> str:
    """Name a model by its kind and its largest setting."""
    sizes = ((k, v) for k, v in vars(config).items() if type(v) is int)
    name, value = max(sizes, key=lambda pair: pair[1], default=("", 0))
    return f"{models.kind(config)} with --model.{name.replace('_', '-')} {value}"


def check_training(run: Run[Any], shape: tuple[int, int, int], batch: int) -> None:
    """Raise UserError if training on batches of so many images takes more memory than there is."""
    weights = _size(outline(run.model, shape).state_dict().values())
    length = max((getattr(run.model, name, 1) for name in LENGTHS[:3]), default=1)
    kept = length if not run.recompute else min(length, run.recompute + length // run.recompute)
    parts = {f"{COPIES[run.optimizer]} copies of the weights": COPIES[run.optimizer] * weights}
    if sum(parts.values()) <= memory():
        few = min(batch, 64)
        each = _extrapolated(run.model, shape, few, kept) / few
        parts[f"the activations of {batch} images"] = round(batch * each)
    require(f"{what(run.model)} and --batch {run.batch}", parts)


def check_sampling(network: Model, images: int, name: str) -> None:
    """Raise UserError if the pictures of so many images, after every step, take more than there is."""
    length = steps(network)
    latents = math.prod(getattr(network, "latents", ()))
    each = 4 * length * (math.prod(network.shape) + latents)
    require(name, {f"the noise and pictures of {images} images in {length} steps": images * each})


def steps(network: Model) -> int:
    """Return the number of pictures in which a model makes one: before its first step and after each."""
    return 1 + max(getattr(network.config, name, 0) for name in LENGTHS)


def require(name: str, parts: dict[str, int]) -> None:
    """Raise UserError, with the parts, if their sum of bytes is more than there is."""
    if sum(parts.values()) > (limit := memory()):
        listed = ", ".join(f"{what} {_gigabytes(size)}" for what, size in parts.items())
        raise UserError(
            f"{name} needs about {_gigabytes(sum(parts.values()))} of memory ({listed}), and there "
            f"are {_gigabytes(limit)}: choose smaller sizes"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _extrapolated(config: Any, shape: tuple[int, int, int], batch: int, length: int) -> int:
    """Return the activations' bytes over so many steps; all steps after the second keep the same."""
    names = [name for name in LENGTHS if hasattr(config, name)]
    if length <= 3 or not names:
        return _activations(config, shape, batch)
    two, three = (
        _activations(replace(config, **dict.fromkeys(names, k)), shape, batch) for k in (2, 3)
    )
    return two + (length - 2) * (three - two)


def _activations(config: Any, shape: tuple[int, int, int], batch: int) -> int:
    """Return the bytes that one batch keeps for its backward pass, and of its noise.

    0 for a model that looks at values.
    """
    kept: dict[int, tuple[int, Any]] = {}
    classes = getattr(config, "classes", 0)

    def keep(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        kept[storage._cdata] = storage.nbytes(), storage
        return t

    y = models.of(config).encode_labels(torch.zeros(1, dtype=torch.int64), classes)
    model, noise = outline(config, shape), _Noise(keep)
    model.autocast = contextlib.nullcontext  # type: ignore[method-assign]
    x, y = (torch.empty(batch, *each, device="meta") for each in (shape, y.shape[1:]))
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t)
    try:
        with torch.device("meta"), hooks:
            for group in model.parameter_groups():
                model.loss(x, y, noise, LossOptions(group=group))
    except (NotImplementedError, RuntimeError, TypeError):
        return 0
    for p in model.parameters():
        kept.pop(p.untyped_storage()._cdata, None)
    return sum(size for size, _ in kept.values())


@dataclass
class _Noise:
    """Noise without values, each of which is kept."""

    keep: Callable[[Tensor], Tensor]

    def normal(self, purpose: str, *shape: int, axis: int = 0) -> Tensor:
        return self.keep(torch.empty(shape, device="meta"))

    uniform = normal
