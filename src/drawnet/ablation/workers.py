"""Who does the jobs of a study: processes here, or tasks of a Ray cluster."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

from drawnet.ablation.jobs import Job, close_stdin, start
from drawnet.errors import threads


class Workers(Protocol):
    """Does jobs, several at a time."""

    jobs: int
    """How many are to be started at a time unless somebody says."""

    def start(self, name: str, job: Job) -> None:
        """Start a job, or put it in the queue."""

    def stop(self) -> None:
        """Let all jobs end soon, each with a checkpoint."""

    def ended(self) -> list[tuple[str, str]]:
        """Return the names of the jobs that have ended, and why if their logs cannot say it."""


@contextmanager
def hired(
    on: Literal["here", "ray"], folder: Path, jobs: int | None, cores: int | None
) -> Iterator[Workers]:
    """Hire workers for the study of a folder; see `Study` for the rest.

    UserError: there is no cluster, or none with so many cores on one machine.
    """
    if on == "ray":
        from drawnet.ablation import on_ray

        with on_ray.tasks(folder, cores or 1) as tasks:
            yield tasks
    else:
        yield Processes(cores or max(1, (threads() or os.cpu_count() or 1) // (jobs or 1)))


class Processes:
    """Processes of this machine; they end when this one does, each with a checkpoint."""

    def __init__(self, cores: int) -> None:
        self.jobs, self.cores = 1, cores
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, job: Job) -> None:
        self.running[name] = start(job, self.cores)

    def stop(self) -> None:
        for process in self.running.values():
            close_stdin(process)

    def ended(self) -> list[tuple[str, str]]:
        names = [name for name, process in self.running.items() if process.poll() is not None]
        for name in names:
            close_stdin(self.running.pop(name))
        return [(name, "") for name in names]
