"""CIFAR-10 (Krizhevsky 2009): 60,000 small colour photographs of ten classes.

From the published Python batches, packed or unpacked, or from parquet files of the same images.
"""

import io
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from drawnet.data import Dataset, File, Images, Info
from drawnet.data.io.cache import cached, joined
from drawnet.data.io.files import array, classes, counted, find, find_file, read_parquet, reading
from drawnet.data.io.pictures import stacked
from drawnet.errors import UserError

_ARCHIVE, _FOLDER = "cifar-10-python.tar.gz", "cifar-10-batches-py"
_BATCHES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")
_BATCH, _LEARN = 10_000, 50_000
_VALID = 5_000
_PARQUET = ("cifar10_train_00.parquet", "cifar10_train_01.parquet")
_PARQUET_TEST, _PARQUET_TESTED = "cifar10_test_first1000.parquet", 1_000

INFO = Info(
    name="cifar10",
    description="colour photographs 32x32 of ten classes; valid is the last 5,000 of the 50,000 "
    "for training",
    licence="none stated; the authors ask for a citation of Krizhevsky 2009",
    source="Krizhevsky 2009, Learning multiple layers of features from tiny images; "
    "https://www.cs.toronto.edu/~kriz/cifar.html",
    files=(
        File(
            _ARCHIVE,
            (f"https://www.cs.toronto.edu/~kriz/{_ARCHIVE}",),
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            170_498_071,
        ),
    ),
)


def load(data_dir: Path) -> Dataset:
    """Read CIFAR-10: 45,000 / 5,000 / 10,000 images (3, 32, 32), 256 levels, labels 0..9.

    From the folder cifar-10-batches-py or the archive that holds it; if neither is there, from
    parquet files with columns `image`, `label` and `index` (official order), whose test set is
    only the first 1,000 images of the official one: the name says so.
    """
    official = find_file(data_dir, "cifar10", f"{_FOLDER}/{_BATCHES[0]}", _ARCHIVE)
    if not official and find_file(data_dir, "cifar10", *_PARQUET, _PARQUET_TEST):
        learn = _from_parquet(data_dir, _PARQUET, _LEARN)
        test = _from_parquet(data_dir, [_PARQUET_TEST], _PARQUET_TESTED)
        part = "test is the first 1,000 of the official 10,000"
        changed = {"name": f"cifar10, {part}", "description": f"{INFO.description}; {part}"}
        return _dataset(learn, test, **changed)
    path = official or find(data_dir, "cifar10", _ARCHIVE)
    paths = [path] if path.name == _ARCHIVE else [path.with_name(name) for name in _BATCHES]
    whole = cached(paths, lambda: _batches(paths))
    return _dataset(whole[:_LEARN], whole[_LEARN:])


def _dataset(learn: Images, test: Images, **changed: str) -> Dataset:
    end = _LEARN - _VALID
    splits = {"train": learn[:end], "valid": learn[end:], "test": test}
    return INFO.dataset(256, splits, **changed)


# ---- the published batches ----------------------------------------------------------------------


def _batches(paths: list[Path]) -> Images:
    """Read the six batches, in the archive or in a file each, and concatenate them."""
    raw = _from_archive(paths[0]) if len(paths) == 1 else map(_read, paths)
    return joined(_batch(batch, paths[k % len(paths)], _BATCHES[k]) for k, batch in enumerate(raw))


def _batch(raw: bytes, path: Path, name: str) -> Images:
    with reading(path, f"CIFAR-10 {name}"):
        content = Unpickler(io.BytesIO(raw), encoding="bytes").load()
        rows, labels = np.asarray(content[b"data"]), np.asarray(content[b"labels"])
    rows = array({"data": rows}, "data", (_BATCH, 3072), path)
    labels = classes(labels, range(10), path)
    counted(len(labels), _BATCH, f"labels in {name}", path)
    return Images(rows.reshape(-1, 3, 32, 32), labels)


class Unpickler(pickle.Unpickler):
    """Reads arrays, numbers, text and lists of them; refuses everything else, which could run code."""

    _MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
    _ALLOWED: ClassVar = {
        "_reconstruct": np.empty(0).__reduce__()[0],
        "ndarray": np.ndarray,
        "dtype": np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if module in self._MODULES and name in self._ALLOWED:
            return self._ALLOWED[name]
        raise pickle.UnpicklingError(f"it refers to {module}.{name}, which no batch needs")


def _read(path: Path) -> bytes:
    with reading(path, "CIFAR-10 batch"):
        return path.read_bytes()


def _from_archive(path: Path) -> list[bytes]:
    raw: dict[str, bytes] = {}
    with reading(path, "archive"), tarfile.open(path) as archive:
        for member in archive:
            folder, _, name = member.name.rpartition("/")
            if folder == _FOLDER and name in _BATCHES and (file := archive.extractfile(member)):
                raw[name] = file.read()
        if missing := set(_BATCHES) - set(raw):
            raise ValueError(f"no {_FOLDER}/{min(missing)} in it")
    return [raw[name] for name in _BATCHES]


# ---- the same images in parquet -----------------------------------------------------------------


def _from_parquet(data_dir: Path, files: Sequence[str], count: int) -> Images:
    paths = [find(data_dir, "cifar10", file) for file in files]
    return cached(paths, lambda: _decoded(paths, count))


def _decoded(paths: list[Path], count: int) -> Images:
    """Decode `count` images over all the files, which must be in official order."""
    parts, order = [], []
    for path in paths:
        columns = read_parquet(path, "image", "label", "index")
        pixels = stacked(columns["image"], (3, 32, 32), path)
        parts.append(Images(pixels, classes(columns["label"], range(10), path)))
        order += columns["index"]
    counted(len(order), count, "images, with those of the files before it,", paths[-1])
    if order != list(range(count)):
        raise UserError(
            f"{paths[0]} and the following files are not in official order: get new copies"
        )
    return joined(parts)
