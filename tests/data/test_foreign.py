"""Data that is damaged, foreign or without end: one line, at once, and nothing of it is run."""

import gzip
import io
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from drawnet.data import load
from drawnet.data.io import pictures
from drawnet.data.io.files import read_idx, read_npz
from drawnet.errors import UserError


def picture(k: int = 0, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(k).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def refused(path, what: str) -> str:
    with pytest.raises(UserError, match=what) as error:
        load(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def table(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def write(**columns):
        columns = {"image": ([picture(k) for k in range(12)], pa.binary())} | columns
        arrays = {name: pa.array(values, kind) for name, (values, kind) in columns.items()}
        parquet.write_table(pa.table(arrays), tmp_path / "x.parquet")
        return tmp_path / "x.parquet"

    return pa, write


# ---- parquet ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind", "what"),
    [
        ([None, *range(11)], "int64", r"x\.parquet: no label: 1 of \d+ images, the first 0: add"),
        ([*range(11), 2**64 - 1], "uint64", "row 11: the label is 18446744073709551615: use words"),
        ([*range(11), 2**31], "int64", "row 11: the label is 2147483648"),
        ([0.5] * 12, "float64", r"row 0: the label is 0\.5"),
        ([float("nan")] * 12, "float64", "row 0: the label is nan"),
        ([[1]] * 12, "list", r"row 0: the label is \[1\]"),
    ],
)
def test_labels_that_are_none(table, values, kind, what):
    pa, write = table
    path = write(label=(values, pa.list_(pa.int64()) if kind == "list" else kind))
    refused(path, what)
    assert load(str(path), labels="none").splits["train"].labels is None


@pytest.mark.parametrize("values", [[None] * 12, [-1] * 12])
def test_no_label_at_all_is_no_fault(table, values):
    assert load(str(table[1](label=(values, "int64")))).splits["train"].labels is None


@pytest.mark.parametrize("kind", ["binary", "large_binary", "struct"])
def test_every_kind_of_bytes(table, kind):
    pa, write = table
    kinds = {
        "binary": pa.binary(),
        "large_binary": pa.large_binary(),
        "struct": pa.struct([("bytes", pa.large_binary()), ("path", pa.string())]),
    }
    cells = [picture(k) for k in range(12)]
    cells = [{"bytes": cell, "path": None} for cell in cells] if kind == "struct" else cells
    assert load(str(write(image=(cells, kinds[kind])))).shape == (3, 8, 8)


@pytest.mark.parametrize("meta", [b"{", b"[]", b'{"info": 3}', b"\xff", b"[" * 100_000])
def test_metadata_that_say_nothing(table, meta):
    from pyarrow import parquet

    path = table[1](label=(list(range(12)), "int64"))
    whole = parquet.read_table(path)
    parquet.write_table(whole.replace_schema_metadata({b"huggingface": meta}), path)
    assert load(str(path)).classes == ()


# ---- archives and arrays ------------------------------------------------------------------------


class Runs:
    """Whose unpickling would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_archives_that_are_no_arrays(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", picture())
    refused(tmp_path / "x.zip", "is a zip archive without arrays: unpack it, name the folder")
    proof = tmp_path / "proof"
    torch.save({"images": Runs(proof)}, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", r"was written by torch\.save, as a pickle, which may run a program")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(Runs(proof)))
    refused(tmp_path / "x.pkl", "is a pickle, which may run a program and is not read")
    np.savez(tmp_path / "x.npz", images=np.array([Runs(proof)] * 9, object))
    refused(tmp_path / "x.npz", "has nothing but Python objects")
    np.save(tmp_path / "x.npy", np.array([Runs(proof)] * 9, object), allow_pickle=True)
    refused(tmp_path / "x.npy", "holds Python objects")
    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    refused(tmp_path / "x.h5", "is an HDF5 file")
    assert not proof.exists()


def header(shape) -> bytes:
    buffer = io.BytesIO()
    values = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, values)
    return buffer.getvalue()


@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**3, 10**3), (3, -4, 4), (2**40, 2**40)])
def test_headers_that_promise_more_than_there_is(tmp_path, shape):
    content = header(shape) + bytes(99)
    (tmp_path / "x.npy").write_bytes(content)
    refused(tmp_path / "x.npy", r"not a complete \.npy file")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", content)
    refused(tmp_path / "x.npz", r"not a complete \.npz file .*promises")
    axes = b"".join(min(abs(n), 2**32 - 1).to_bytes(4, "big") for n in shape)
    (tmp_path / "x-idx").write_bytes(b"\0\0\x08" + bytes([len(shape)]) + axes + bytes(7))
    refused(tmp_path / "x-idx", "header promises")
    (tmp_path / "x.gz").write_bytes(gzip.compress((tmp_path / "x-idx").read_bytes()))
    refused(tmp_path / "x.gz", "header promises|GB of memory")


def test_bombs_are_not_unpacked(tmp_path, monkeypatch):
    """64 MB of zeros in 64 kB, on a machine of 32 MB: refused by what the archive says of itself."""
    memory = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 2**25}
    monkeypatch.setattr(os, "sysconf", memory.__getitem__)
    np.savez_compressed(tmp_path / "x.npz", np.zeros((2**16, 32, 32), np.uint8))
    refused(tmp_path / "x.npz", "takes 0.1 GB of memory, and this machine has 0.0")
    raw = b"\0\0\x08\x03" + np.array([2**16, 32, 32], ">u4").tobytes() + bytes(2**26)
    (tmp_path / "x.gz").write_bytes(gzip.compress(raw, 1))
    refused(tmp_path / "x.gz", "of memory")
    (tmp_path / "y.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\1" + raw, 1))
    with pytest.raises(UserError, match="has 1025 bytes, but its header promises 9"):
        read_idx(tmp_path / "y.gz")  # no more than the room for a header is unpacked


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (np.nan, "values that are not finite, the first in row 5"),
        (np.inf, "values that are not finite, the first in row 5"),
        (-1.0, r"values from -1 to 1: scale them to 0\.\.1 or 0\.\.255"),
        (1e6, r"values up to 1e\+06 are no pixels"),
    ],
)
@pytest.mark.parametrize("save", [np.save, np.savez])
def test_values_that_are_no_pixels(tmp_path, value, what, save):
    array = np.random.default_rng(0).random((9, 6, 6), np.float32)
    array[0, 0, 0] = 1
    array[5, 3, 3] = value
    with (tmp_path / "x").open("wb") as file:
        save(file, array)
    refused(tmp_path / "x", what)


@pytest.mark.parametrize("array", [np.zeros((9, 6, 6), complex), np.zeros((9, 6, 6), "U3")])
def test_types_that_are_no_pixels(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    refused(tmp_path / "x.npy", "pixels are integers from 0 or floats")


def test_an_array_in_fortrans_order_is_read_as_it_is(tmp_path):
    array = np.asfortranarray(np.random.default_rng(0).integers(0, 256, (9, 6, 7), np.uint8))
    np.savez(tmp_path / "x.npz", array)
    assert (read_npz(tmp_path / "x.npz")["arr_0"] == array).all()


# ---- files without end --------------------------------------------------------------------------


def test_devices_and_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for node in (tmp_path / "pipe", "/dev/zero", "/dev/null"):
        refused(node, "is a device, pipe or socket: name a file")


def test_a_pipe_in_a_folder_is_left_out(tmp_path):
    for k in range(5):
        (tmp_path / f"{k}.png").write_bytes(picture(k))
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "x.parquet")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone")
    with pytest.warns(UserWarning, match=r"3 of 8 files \(nowhere\.png, pipe\.png, x\.p"):
        assert sum(map(len, load(str(tmp_path)).splits.values())) == 5


def test_a_circle_of_links_is_gone_round_once(tmp_path):
    (tmp_path / "a").mkdir()
    for k in range(5):
        (tmp_path / "a" / f"{k}.png").write_bytes(picture(k))
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert sum(map(len, load(str(tmp_path)).splits.values())) == 5


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "5.png").write_bytes(picture())

    scan = os.scandir

    def scandir(path):
        if str(path) == str(tmp_path):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    refused(tmp_path, "cannot read .*: Permission denied")


@pytest.mark.parametrize("name", ["x" * 300, "~nosuchuser/x", "a\0b", "x/" * 3000])
def test_names_that_are_no_paths(name):
    refused(name, "cannot be opened|no such home folder|no data set, file or folder")


# ---- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF"])
def test_cut_pictures(tmp_path, kind):
    whole = picture(kind=kind)
    for content in (b"", whole[: len(whole) // 2], whole[:12]):
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(UserError, match=r"x\.png is not a readable picture") as error:
            pictures.read(tmp_path / "x.png", "x.png")
        assert "\n" not in str(error.value)


def test_a_picture_without_pixels(tmp_path):
    for content in (b"P5 0 4 255\n", b"P5 4 0 255\n", picture()[:16] + bytes(8) + picture()[24:]):
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(UserError, match="is not a readable picture"):
            pictures.read(tmp_path / "x.png", "x.png")


def test_a_picture_that_claims_more_pixels_than_there_may_be(tmp_path):
    """A BMP header of 10^10 pixels and nothing behind it."""
    whole = picture(kind="BMP")
    huge = whole[:18] + np.array([100_000, 100_000], "<i4").tobytes() + whole[26:]
    for k in range(4):
        (tmp_path / f"{k}.png").write_bytes(huge if k == 2 else picture(k))
    refused(tmp_path, r"2\.png has more than .* pixels, which may be a decompression bomb")


def test_more_images_than_memory(tmp_path, monkeypatch):
    for k in range(4):
        (tmp_path / f"{k}.png").write_bytes(picture(k))
    memory = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 2**30}
    monkeypatch.setattr(os, "sysconf", memory.__getitem__)
    with pytest.raises(UserError, match=r"images \(4, 3, 20000, 20000\) takes 4\.8 GB of memory"):
        load(str(tmp_path), size=20_000)


# ---- the command line ---------------------------------------------------------------------------


def drawnet(*words):
    command = [sys.executable, "-m", "drawnet", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("size", "abc", "size is 'abc': choose an integer or height and width"),
        ("data_dir", "/", "no option of data set"),
        ("name", "x", "no option of data set"),
        ("labels", "7", "no labels '7'"),
    ],
)
def test_options_from_the_shell(tmp_path, option, value, said):
    np.savez(tmp_path / "x.npz", np.zeros((9, 6, 6), np.uint8))
    words = ("train", "images", "--data.name", tmp_path / "x.npz", "--data.options", option, value)
    done = drawnet(*words)
    assert done.returncode == 2 and said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_reconstruct_without_pictures():
    """Then images of the data are read, which may not be there."""
    done = drawnet("reconstruct", "mnist", "--data-dir", "nowhere")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("drawnet: binarized_mnist: no ")
