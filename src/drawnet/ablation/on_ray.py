"""The jobs of a study as tasks of a Ray cluster.

A task starts the process that `jobs.start` starts anywhere, with the cores that it has claimed.  It
works in the study's folder if its machine sees that; if not, in a folder of its cache, and the files
come home when the job has ended.  Where a worker is killed, its process ends with a checkpoint, and
Ray gives the task to another worker, which goes on from there if it sees the checkpoint.
"""

import contextlib
import logging
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from drawnet import __version__
from drawnet.ablation import jobs
from drawnet.ablation.jobs import Job
from drawnet.errors import UserError, cache_dir, write_text, write_together

RETRIES = 3
"""How often a job whose worker died is given to another."""
Files = dict[str, bytes]
"""By name relative to the folder of a job's result, which comes last."""


@dataclass(frozen=True)
class Home:
    """Where a study's command runs; sent with every job."""

    host: str
    folder: Path
    cwd: Path
    token: str
    """What stands in the folder's file `.token`: who reads it there sees the folder."""
    version: str = __version__

    def reachable(self) -> bool:
        with contextlib.suppress(OSError):
            return (self.folder / ".token").read_text() == self.token
        return False

    def scratch(self, job: Job) -> Path:
        """Return the folder for a job where the study's is not seen: the same one every time."""
        digest = sha256(f"{self.host} {job.to_json()}".encode()).hexdigest()[:16]
        return cache_dir() / "studies" / f"{Path(job.out).parent.name}-{digest}"


# ---- on a machine of the cluster ----------------------------------------------------------------


def perform(text: str, cores: int, home: Home, start: Files) -> tuple[Files, str]:
    """Do a job, or go on with it; return its files and why it failed, if its log cannot say that.

    Of files that are in their places, the result alone.  Cancelled, it stops with a checkpoint.

    start: the files of a run that was stopped before.
    """
    if home.version != __version__:
        here = socket.gethostname()
        return {}, f"{here} has drawnet {__version__}, and {home.host} {home.version}"
    job, reachable = Job.from_json(text), home.reachable()
    if not reachable:
        folder = home.scratch(job)
        if not folder.exists():
            write_together({folder / name: content for name, content in start.items()})
        job = replace(job, out=str(folder / Path(job.out).name))
    process = jobs.start(job, cores, home.cwd if home.cwd.is_dir() else None)
    try:
        while process.poll() is None:
            time.sleep(0.1)
    except KeyboardInterrupt:
        pass
    finally:
        jobs.close_stdin(process)
        process.wait()
    if reachable:
        out = Path(job.out)
        return ({out.name: out.read_bytes()} if out.exists() else {}), ""
    files = read(folder, last=Path(job.out).name)
    shutil.rmtree(folder)
    return files, ""


def read(folder: Path, last: str) -> Files:
    """Read all files of a folder but those with a dot, which are the machine's own."""
    paths = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
    paths.sort(key=lambda path: path.name == last)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


# ---- at home ------------------------------------------------------------------------------------


def connect(cores: int) -> ModuleType:
    """Connect to the cluster of RAY_ADDRESS, or to the one of this machine.

    UserError if there is none, or none with a machine of so many cores.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as why:
        raise UserError("--on ray needs an extra: pip install 'drawnet[ray]'") from why
    address = os.environ.get("RAY_ADDRESS") or "auto"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, OverflowError, RuntimeError, ValueError) as why:
        line = str(why).partition("\n")[0].partition(". ")[0]  # without Ray's advice
        raise UserError(
            f"no Ray cluster can be used with RAY_ADDRESS={address} ({line}): "
            "'ray start --head' starts one"
        ) from why
    most = max((n["Resources"].get("CPU", 0) for n in ray.nodes() if n["Alive"]), default=0)
    if most < cores:
        ray.shutdown()
        raise UserError(f"no machine of the Ray cluster has {cores} cores, but {most:.0f} at most")
    return ray


@contextmanager
def tasks(folder: Path, cores: int) -> Iterator["Tasks"]:
    """Connect to a Ray cluster for a study, and leave it at the end."""
    ray = connect(cores)
    try:
        yield Tasks(ray, folder, cores)
    finally:
        ray.shutdown()


class Tasks:
    """Tasks of a Ray cluster, each with so many cores."""

    jobs = 2**31
    """At a time: Ray queues those for which there are no cores yet."""

    def __init__(self, ray: ModuleType, folder: Path, cores: int) -> None:
        self.ray, self.cores, self.stopped = ray, cores, False
        self.home = Home(socket.gethostname(), folder.absolute(), Path.cwd(), uuid.uuid4().hex)
        write_text(folder / ".token", self.home.token)
        self.task = ray.remote(num_cpus=cores, max_retries=RETRIES)(perform)
        self.running: dict[Any, tuple[str, Job]] = {}

    def start(self, name: str, job: Job) -> None:
        job = replace(job, out=str(Path(job.out).absolute()))
        if job.data_dir:
            job = replace(job, data_dir=str(Path(job.data_dir).absolute()))
        files = {} if job.minutes else read(Path(job.out).parent, Path(job.out).name)
        ref = self.task.remote(job.to_json(), self.cores, self.home, self.ray.put(files))
        self.running[ref] = name, job

    def stop(self) -> None:
        for ref in () if self.stopped else self.running:
            self.ray.cancel(ref)
        self.stopped = True

    def ended(self) -> list[tuple[str, str]]:
        if not self.running:
            return []
        done, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=0)
        return [self.take(ref) for ref in done]

    def take(self, ref: Any) -> tuple[str, str]:
        """Put a job's files in their places; return its name, and why it failed."""
        name, job = self.running.pop(ref)
        try:
            files, why = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            return name, str(error).strip().rpartition("\n")[2]
        except self.ray.exceptions.RayError as error:
            return name, str(error).partition("\n")[0]
        write_together({Path(job.out).parent / path: content for path, content in files.items()})
        return name, why
