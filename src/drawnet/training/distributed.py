"""Rank, world size and means over torch.distributed; one process is the case world = 1."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from drawnet.errors import UserError


@contextmanager
def group() -> Iterator[None]:
    """Join the processes that `torchrun` started, if any, and leave them at the end."""
    asked = os.environ.get("WORLD_SIZE", "1")
    if not asked.isdecimal() or int(asked) < 1:
        raise UserError(f"WORLD_SIZE is {asked!r}: let torchrun set it, or unset it")
    started = int(asked) > 1
    missing = [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
    if started and missing:
        raise UserError(f"WORLD_SIZE is {asked} without {missing[0]}: start with torchrun")
    if started:
        # Its functions keep the group at their definition as their default: imported later, by an
        # optimiser, they would keep gloo's threads alive, which are then aborted at exit.
        importlib.import_module("torch.distributed.nn.functional")
        dist.init_process_group("gloo")
    try:
        yield
    finally:
        if started:
            dist.destroy_process_group()


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return this process's rank, 0 .. world-1; rank 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def mean(tensors: list[Tensor]) -> None:
    """Replace every tensor, in place, by its mean over the processes, in one message."""
    if world() == 1:
        return
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    flat /= world()
    for t, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        t.copy_(part.view_as(t))


def any_true(flag: bool) -> bool:
    """Return whether the flag is set in any process."""
    if world() == 1:
        return flag
    tensor = torch.tensor(float(flag))
    dist.all_reduce(tensor)
    return bool(tensor > 0)


def barrier() -> None:
    """Wait until every process has arrived."""
    if world() > 1:
        dist.barrier()
