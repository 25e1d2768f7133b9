"""CIFAR-10's two containers; the published one is written here as Python 2 wrote it."""

import io
import pickle
import struct
import tarfile
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from drawnet.data import cifar10, load
from drawnet.errors import UserError

PARQUET_TEST = "cifar10, test is the first 1,000 of the official 10,000"


class Python2(pickle._Pickler):
    """Text and bytes are one kind, as in the published files."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_text(self, value):
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)

    dispatch[str] = dispatch[bytes] = save_text


def pickled(content) -> bytes:
    file = io.BytesIO()
    Python2(file, protocol=2).dump(content)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Batches of 10 in place of 10,000: their pictures, labels and pickles."""
    for name, value in (("_BATCH", 10), ("_LEARN", 50), ("_VALID", 5)):
        monkeypatch.setattr(cifar10, name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 3, 32, 32), np.uint8)
    labels = rng.integers(0, 10, 60)
    raw = {}
    for k, name in enumerate(cifar10._BATCHES):
        part = slice(10 * k, 10 * k + 10)
        raw[name] = pickled(
            {
                "batch_label": "training batch",
                "labels": labels[part].tolist(),
                "data": pixels[part].reshape(10, 3072),
                "filenames": ["a.png"] * 10,
            }
        )
    return pixels, labels, raw


def write_folder(folder, raw):
    folder.mkdir(parents=True)
    for name, content in raw.items():
        (folder / name).write_bytes(content)


def write_archive(path, raw):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in sorted(raw.items(), reverse=True):
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_facts(real_data):
    data = load("cifar10", real_data)
    train, valid, test = data.splits.values()
    assert [len(train), len(valid), len(test)] in ([45_000, 5_000, 1_000], [45_000, 5_000, 10_000])
    assert (data.name == PARQUET_TEST) == (len(test) == 1_000)
    assert (data.shape, data.levels) == ((3, 32, 32), 256)
    assert train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert (np.bincount(np.concatenate([train.labels, valid.labels])) == 5_000).all()
    mean = (9 * train.pixels.mean((0, 2, 3)) + valid.pixels.mean((0, 2, 3))) / 10
    assert mean == pytest.approx([125.307, 122.950, 113.865], abs=6e-4)
    assert test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]


@pytest.mark.parametrize("place", ["", "cifar10"])
@pytest.mark.parametrize("container", ["folder", "archive"])
def test_the_published_batches(small, tmp_path, container, place):
    pixels, labels, raw = small
    if container == "folder":
        write_folder(tmp_path / place / "cifar-10-batches-py", raw)
    else:
        write_archive(tmp_path / place / "cifar-10-python.tar.gz", raw)
    for _ in range(2):  # read, then kept
        data = load("cifar10", tmp_path)
        assert [len(images) for images in data.splits.values()] == [45, 5, 10]
        assert data.name == "cifar10"
        for images, part in zip(data.splits.values(), ((0, 45), (45, 50), (50, 60)), strict=True):
            assert (images.pixels == pixels[slice(*part)]).all()
            assert (images.labels == labels[slice(*part)]).all()


class Evil:
    def __reduce__(self):
        return print, ("ran",)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (pickled(Evil()), r"not a complete CIFAR-10 test_batch \(it refers to __builtin__\.print"),
        (b"", "not a complete CIFAR-10 test_batch"),
        (b"junk", "not a complete CIFAR-10 test_batch"),
        (pickled([1]), "not a complete CIFAR-10 test_batch"),
        (pickled({"data": [1], "labels": [1]}), r"'data' is int64 \(1,\), not uint8"),
        (
            pickled({"data": np.zeros((10, 3072)), "labels": [1] * 10}),
            r"'data' is float64 \(10, 3072\), not uint8 \(10, 3072\)",
        ),
        (
            pickled({"data": np.zeros((9, 3072), np.uint8), "labels": [1] * 10}),
            r"'data' is uint8 \(9, 3072\)",
        ),
        (
            pickled({"data": np.zeros((10, 3072), np.uint8), "labels": [1] * 9}),
            "has 9 labels in test_batch, not the official 10",
        ),
        (
            pickled({"data": np.zeros((10, 3072), np.uint8), "labels": [10] * 10}),
            r"others than 0\.\.9",
        ),
    ],
)
def test_batches_that_are_not_right(small, tmp_path, capsys, content, told):
    write_folder(tmp_path / "cifar-10-batches-py", small[2] | {"test_batch": content})
    with pytest.raises(UserError, match=told) as error:
        load("cifar10", tmp_path)
    assert "test_batch" in str(error.value) and "\n" not in str(error.value)
    assert capsys.readouterr().out == ""


def test_archives_that_are_not_right(small, tmp_path):
    path, raw = tmp_path / "cifar-10-python.tar.gz", dict(small[2])
    del raw["data_batch_3"]
    write_archive(path, raw)
    with pytest.raises(UserError, match=r"not a complete archive \(no .*/data_batch_3 in it\)"):
        load("cifar10", tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"tar\.gz is not a complete archive"):
        load("cifar10", tmp_path)
    write_folder(tmp_path / "cifar-10-batches-py", raw)
    with pytest.raises(UserError, match=r"cannot read .*data_batch_3: No such file"):
        load("cifar10", tmp_path)


# ---- parquet ------------------------------------------------------------------------------------


def png(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def write_parquet(path, pixels, labels, index):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"image": [png(p) for p in pixels], "label": labels, "index": index}
    parquet.write_table(pa.table(columns), path)


def write_parts(folder, pixels, labels, counts=(20, 30)):
    first = slice(0, counts[0])
    second = slice(counts[0], sum(counts))
    for file, part in (("train_00", first), ("train_01", second)):
        index = np.arange(part.start, part.stop)
        write_parquet(folder / f"cifar10_{file}.parquet", pixels[part], labels[part], index)


def test_parquet(small, tmp_path, monkeypatch):
    pixels, labels, raw = small
    monkeypatch.setattr(cifar10, "_PARQUET_TESTED", 10)
    write_parts(tmp_path, pixels, labels)
    with pytest.raises(UserError, match=r"no cifar10_test_first1000\.parquet in"):
        load("cifar10", tmp_path)
    test = tmp_path / "cifar10_test_first1000.parquet"
    write_parquet(test, pixels[50:], labels[50:], np.arange(10))
    data = load("cifar10", tmp_path)
    assert data.name == PARQUET_TEST
    everything = np.concatenate([images.pixels for images in data.splits.values()])
    assert (everything == pixels).all()
    assert (data.splits["valid"].labels == labels[45:50]).all()
    write_folder(tmp_path / "cifar10" / "cifar-10-batches-py", raw)
    assert load("cifar10", tmp_path).name == "cifar10", "the official files win"


def test_parquet_that_is_not_right(small, tmp_path):
    pixels, labels, _ = small
    write_parts(tmp_path, pixels, labels, (20, 29))
    with pytest.raises(UserError, match=r"train_01.* has 49 images, with those .* official 50"):
        load("cifar10", tmp_path)
    write_parts(tmp_path, pixels, labels)
    path = tmp_path / "cifar10_train_01.parquet"
    write_parquet(path, pixels[20:50], labels[20:50], np.arange(20, 50)[::-1])
    with pytest.raises(UserError, match="not in official order"):
        load("cifar10", tmp_path)
    write_parquet(path, pixels[20:50], labels[20:50] + 9, np.arange(20, 50))
    with pytest.raises(UserError, match=r"train_01.*others than 0\.\.9"):
        load("cifar10", tmp_path)
    write_parquet(path, pixels[20:50, :, :31], labels[20:50], np.arange(20, 50))
    with pytest.raises(UserError, match=r"train_01.*row 0: 32x31 pixels, not 32x32"):
        load("cifar10", tmp_path)
