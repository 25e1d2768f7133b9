"""Outputs that are filled batch by batch: grids, arrays and folders of pictures.

Their memory does not grow with the number of images n, but for a grid's screen pixels and for what an
animation shows.
"""

import io
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from drawnet.drawing import figures, files
from drawnet.drawing.figures import Trajectory
from drawnet.drawing.sample import in_turn
from drawnet.errors import UserError, check_folder, reason, write_atomically, write_together
from drawnet.models.base import Model
from drawnet.training import budget

ARRAYS = (".npz", ".npy")
BLOCK = 4096
"""Bytes that a small file takes of a disk."""
LARGEST = {".png": 2**31 - 1, ".webp": 16_383, ".jpg": 65_535}
"""The largest side of a picture in each format."""


class Output(Protocol):
    """What takes batches of images, and saves them when it has all."""

    frames: bool
    """Whether it shows all steps, and not the final images alone."""

    def add(self, part: Trajectory) -> None: ...

    def save(self) -> None: ...


class Grid:
    """A grid of n images (C, H, W) in a picture file."""

    frames = False

    def __init__(self, path: Path, n: int, shape: Sequence[int]) -> None:
        columns = math.isqrt(n) + 2
        if columns * (max(shape[1:]) + 2) > LARGEST[path.suffix.lower()]:
            raise UserError(f"{path} cannot hold {n} images: name a folder or fewer images")
        budget.require(f"{path} of {n} images", {"its pixels": 2 * n * (math.prod(shape) + 200)})
        self.path, self.grid = path, figures.Grid(n, shape)

    def add(self, part: Trajectory) -> None:
        self.grid.add(part.images)

    def save(self) -> None:
        files.save(self.grid.picture(), self.path)


class Whole:
    """Trajectories that are kept, of the first images or all, until `write` gets them."""

    def __init__(
        self, write: Callable[[Trajectory], None], first: int | None = None, *, frames: bool = True
    ) -> None:
        self.write, self.frames = write, frames
        self.room = math.inf if first is None else first
        self.parts: list[Trajectory] = []

    def add(self, part: Trajectory) -> None:
        n = int(min(self.room, len(part.images)))
        self.room -= n
        if n:
            windows = {name: w[:, :n].clone() for name, w in part.windows.items()}
            frames = part.frames if self.frames else part.frames[-1:]
            self.parts.append(Trajectory(frames[:, :n].clone(), windows))

    def save(self) -> None:
        self.write(figures.joined(self.parts))


class Arrays:
    """An .npz file of arrays of n rows each, and of fixed ones; or an .npy file of one array.

    Until all are there, they lie in files without a name beside it.
    """

    def __init__(self, path: Path, n: int, row: int) -> None:
        """row: bytes of a row of all arrays."""
        check_space(path, 2 * n * row, f"{n} images")
        self.path, self.n = path, n
        self.columns: dict[str, IO[bytes]] = {}
        self.fixed: dict[str, NDArray[Any]] = {}

    def put(self, **rows: NDArray[Any]) -> None:
        """Append the next rows of every array."""
        with _written(self.path):
            for name, part in rows.items():
                if name not in self.columns:
                    self.columns[name] = self._column(part)
                self.columns[name].write(np.ascontiguousarray(part).data)

    def _column(self, part: NDArray[Any]) -> IO[bytes]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file: IO[bytes] = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115
        shape = (self.n, *part.shape[1:])
        descr = np.lib.format.dtype_to_descr(part.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        return file

    def save(self) -> None:
        try:
            write_atomically(self.path, self._fill)
        finally:
            for file in self.columns.values():
                file.close()

    def _fill(self, scratch: Path) -> None:
        if self.path.suffix.lower() == ".npy":
            (file,) = self.columns.values()
            with scratch.open("wb") as target:
                _copy(file, target)
            return
        with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, file in self.columns.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as target:
                    _copy(file, target)
            for name, array in self.fixed.items():
                with archive.open(f"{name}.npy", "w") as target:
                    np.lib.format.write_array(target, array, allow_pickle=False)


class Samples(Arrays):
    """Samples as arrays with a row for each image: images (n, C, H, W) float32 in [0, 1]; labels (n,).

    In an .npz file there are the names of the classes, too, if they have names, and with `frames` also
    frames (n, T+1, C, H, W) and the windows (n, T, 4) of `Trajectory`.
    """

    def __init__(
        self,
        path: Path,
        n: int,
        model: Model,
        labels: Sequence[int],
        classes: Sequence[str],
        *,
        frames: bool,
    ) -> None:
        each = 1 + frames * budget.steps(model)
        super().__init__(path, n, 4 * each * math.prod(model.shape))
        self.labels, self.frames, self.count = labels, frames, 0
        self.alone = path.suffix.lower() == ".npy"
        if classes and labels:
            self.fixed = {"classes": np.array(classes)}

    def add(self, part: Trajectory) -> None:
        rows = {"images": part.images}
        numbers = range(self.count, self.count + len(part.images))
        self.count = numbers.stop
        if self.labels and not self.alone:
            rows["labels"] = torch.tensor(in_turn(self.labels, numbers))
        if self.frames:
            rows |= {name: w.transpose(0, 1) for name, w in part.windows.items()}
            rows["frames"] = part.frames.transpose(0, 1)
        self.put(**{name: t.contiguous().numpy() for name, t in rows.items()})


class Folder:
    """A folder of PNG files, one for each image; the files of a batch are written all or none.

    UserError, before any work, if it holds numbered pictures that these would not replace.
    """

    frames = False

    def __init__(
        self, folder: Path, n: int, labels: Sequence[int] = (), classes: Sequence[str] = ()
    ) -> None:
        check_space(check_folder(folder) / "x", n * BLOCK, f"{n} pictures")
        self.folder, self.count, self.digits = folder, 0, max(4, len(str(n - 1)))
        self.labels, self.classes = labels, dict(enumerate(classes))
        planned = {self._file(k) for k in range(n)} if folder.is_dir() else set()
        others = [f for f in _numbered(folder) if f not in planned]
        if others:
            raise UserError(
                f"{folder} holds {len(others)} other numbered pictures ({min(others)}): remove them, or "
                "name another folder"
            )

    def _file(self, k: int) -> str:
        if not self.labels:
            return f"{k:0{self.digits}}.png"
        label = self.labels[k % len(self.labels)]
        words = "".join(c if c.isalnum() else "_" for c in str(self.classes.get(label, label)))
        return f"{k:0{self.digits}}-{words[:40]}.png"

    def add(self, part: Trajectory) -> None:
        contents = {}
        for picture in figures.singles(part.images):
            buffer = io.BytesIO()
            picture.save(buffer, **files.PICTURES[".png"])
            contents[self.folder / self._file(self.count)] = buffer.getvalue()
            self.count += 1
        write_together(contents)

    def save(self) -> None:
        """Do nothing: all files are there."""


def _numbered(folder: Path) -> list[str]:
    """Return the names in a folder that begin as those of `Folder` do."""
    if not folder.is_dir():
        return []
    names = os.listdir(folder)  # noqa: PTH208
    return [f for f in names if f[:4].isdecimal() and f.endswith(".png")]


def fill(outputs: Sequence[Output], parts: Iterator[Trajectory]) -> None:
    """Give every batch to all outputs, then save them."""
    for part in parts:
        for output in outputs:
            output.add(part)
    for output in outputs:
        output.save()


def check_space(path: Path, size: int, what: str) -> None:
    """Raise UserError if so many bytes are more than the disk of `path` has free."""
    place = path.parent
    while not place.exists():
        place = place.parent
    if size > (free := shutil.disk_usage(place).free):
        raise UserError(
            f"{path.parent}: {what} take about {size // 10**9:,} GB, and its disk has "
            f"{free // 10**9:,} free: request fewer"
        )


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as why:
        raise UserError(f"{path} could not be written: {reason(why)}") from why


def _copy(file: IO[bytes], target: IO[bytes]) -> None:
    file.seek(0)
    shutil.copyfileobj(file, target, 2**20)
