"""Provenance of a result: version of drawnet, commit and machine."""

import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from drawnet import __version__
from drawnet.errors.schema import NonNegativeInt, PathText
from drawnet.training.device import CPU, product


@cache
def commit() -> str | None:
    """Return the commit of the running source, with '+' if it is modified; None outside git."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        tracked = ["git", "-C", str(folder), "ls-files", "--error-unmatch", "__init__.py"]
        subprocess.run(tracked, capture_output=True, check=True)
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def processor() -> str:
    """Return the processor's name, and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    affinity = getattr(os, "sched_getaffinity", None)  # Linux's
    return f"{name}, {len(affinity(0)) if affinity else os.cpu_count()} cores"


@dataclass(frozen=True)
class Metadata:
    """What is saved with a model's weights of how they were made; None: not known."""

    drawnet: str | None = None
    commit: str | None = None
    torch: str | None = None
    processor: str | None = None
    device: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Origin:
    """The weights that a run began from.

    path      of the file, absolute
    digest    SHA-256, in hex, over the tensors
    examples  training examples that they had seen; None: not known
    """

    path: PathText
    digest: str
    examples: NonNegativeInt | None = None

    def __str__(self) -> str:
        return self.path + (f" after {self.examples:,} examples" if self.examples else "")


def build_metadata(device: torch.device = CPU) -> Metadata:
    """Return the metadata of this process; device: where a model was trained."""
    return Metadata(
        drawnet=__version__,
        commit=commit(),
        torch=str(torch.__version__),
        processor=processor(),
        device=product(device),
        threads=torch.get_num_threads(),
    )
