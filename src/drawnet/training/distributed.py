"""Rank, world size and means over torch.distributed; one process is the case world = 1."""

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from drawnet.errors import UserError
from drawnet.training.device import CPU, Device, available, choose


def _started() -> bool:
    """Whether this is one of several processes that `torchrun` started."""
    asked = os.environ.get("WORLD_SIZE", "1")
    if not asked.isdecimal() or int(asked) < 1:
        raise UserError(f"WORLD_SIZE is {asked!r}: let torchrun set it, or unset it")
    missing = [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
    if int(asked) > 1 and missing:
        raise UserError(f"WORLD_SIZE is {asked} without {missing[0]}: start with torchrun")
    if int(asked) > 1:
        for name, most in (("RANK", int(asked) - 1), ("MASTER_PORT", 65535)):
            if not (value := os.environ[name]).isdecimal() or int(value) > most:
                raise UserError(f"{name} is {value!r}, not 0 to {most}: start with torchrun")
    return int(asked) > 1


def own_device(asked: Device) -> torch.device:
    """Return this process's device: of several processes, each takes its own of the cuda devices.

    UserError if there are too few, or for an accelerator by which processes cannot work together.
    """
    device = choose(asked)
    if not _started() or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise UserError(f"processes train together on cuda or the CPU, not on {device.type}")
    if ":" in str(asked):
        raise UserError(
            f"--device {asked} is one device for all processes: --device cuda is one each"
        )
    rank, (_, *there) = os.environ.get("LOCAL_RANK", ""), available()
    if not rank.isdecimal():
        raise UserError("there is no LOCAL_RANK to choose a device by: start with torchrun")
    if int(rank) >= len(there):
        raise UserError(f"process {rank} has no device of its own: start at most {len(there)} here")
    return there[int(rank)]


@contextmanager
def group(device: torch.device = CPU) -> Iterator[None]:
    """Join the processes that `torchrun` started, if any, and leave them at the end.

    device: this process's, as `own_device` chose it; cuda devices speak NCCL, the CPUs gloo.
    """
    if started := _started():
        # Its functions keep the group at their definition as their default: imported later, by an
        # optimiser, they would keep gloo's threads alive, which are then aborted at exit.
        importlib.import_module("torch.distributed.nn.functional")
        try:
            if device.type == "cuda":
                torch.cuda.set_device(device)
                dist.init_process_group("cpu:gloo,cuda:nccl", device_id=device)
            else:
                dist.init_process_group("gloo")
        except (RuntimeError, ValueError) as why:  # an address without a peer
            line = str(why).partition("\n")[0]
            raise UserError(
                f"the processes did not find each other ({line}): use torchrun"
            ) from why
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


def is_main() -> bool:
    """Return whether this process prints: rank 0, also before the processes have joined."""
    return not (rank() or (_started() and int(os.environ["RANK"])))


@contextmanager
def _exchange() -> Iterator[None]:
    """Exchange a message with all processes; UserError if one of them is gone."""
    try:
        yield
    except RuntimeError as why:
        line = str(why).partition("\n")[0].partition(". ")[0]  # without advice on bug reports
        line = re.sub(r"^\[\S+\] ", "", line)  # nor the place in PyTorch's source
        raise UserError(
            f"process {rank()} lost another one ({line}), whose output may say why; "
            "--resume goes on from the last checkpoint"
        ) from why


def mean(tensors: list[Tensor]) -> None:
    """Replace every tensor, in place, by its mean over the processes, in one message."""
    if world() == 1:
        return
    flat = torch.cat([t.reshape(-1) for t in tensors])
    with _exchange():
        dist.all_reduce(flat)
    flat /= world()
    for t, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        t.copy_(part.view_as(t))


def any_true(flag: bool) -> bool:
    """Return whether the flag is set in any process."""
    if world() == 1:
        return flag
    tensor = torch.tensor(float(flag))
    with _exchange():
        dist.all_reduce(tensor)
    return bool(tensor > 0)


def gather(value: Any) -> list[Any]:
    """Return every process's value, by rank, when all have arrived."""
    found = [value] * world()
    if world() > 1:
        with _exchange():
            dist.all_gather_object(found, value)
    return found
