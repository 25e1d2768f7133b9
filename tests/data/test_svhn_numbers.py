"""SVHN's numbers: the cut, the published folders (packed or not) written small, and the part."""

import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from drawnet.data import load, svhn_numbers
from drawnet.data.svhn_numbers import cut, read_boxes
from drawnet.errors import UserError

PART = "svhn_numbers, 512 pictures of 46,470, split 224/32/256"


def test_facts(real_data):
    data = load("svhn_numbers", real_data)
    assert (data.shape, data.levels) == ((3, 54, 54), 256)
    assert data.splits["train"].pixels.shape[1:] == (3, 64, 64)
    if data.name != PART:
        assert [len(images) for images in data.splits.values()] == [28_701, 4_701, 13_068]
        return
    assert [len(images) for images in data.splits.values()] == [224, 32, 256]
    assert "a part" in data.description
    # Numbers 19, 23, 25, 93, 31, 33, 28, 744, 128, 16 open train; 5, 210, 6, 1, 9 open test.
    assert data.splits["train"].labels[:10].tolist() == [2, 2, 2, 2, 2, 2, 2, 3, 3, 2]
    assert data.splits["test"].labels[:5].tolist() == [1, 3, 1, 1, 1]


# ---- the cut ------------------------------------------------------------------------------------


def gradient(width, height):
    """Red tells the column, green the row."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8))


def test_the_box_of_all_digits_grows_by_three_tenths():
    """Boxes from 100 to 180 and 40 to 100: 12 and 9 more on each side."""
    boxes = np.array([[140, 50, 180, 100], [100, 40, 150, 90]])
    number = cut(gradient(250, 200), boxes).astype(float)
    assert number.shape == (3, 64, 64)
    middles = (np.arange(64) + 0.5) / 64
    assert np.abs(number[0] - (88 + 104 * middles - 0.5)).max() <= 1.1
    assert np.abs(number[1] - (31 + 78 * middles - 0.5)[:, None]).max() <= 1.1


def test_it_grows_no_further_than_the_picture():
    number = cut(gradient(100, 50), np.array([[0, -2, 99, 51]])).astype(float)
    middles = (np.arange(64) + 0.5) / 64
    assert np.abs(number[0] - (100 * middles - 0.5)).max() <= 1.6
    assert np.abs(number[1] - (50 * middles - 0.5)[:, None]).max() <= 1.6
    assert (
        cut(Image.new("L", (9, 9), 77), np.array([[2, 2, 4, 5]])).tolist() == [[[77] * 64] * 64] * 3
    )
    with pytest.raises(UserError, match=r"box .* is not in the picture"):
        cut(gradient(100, 50), np.array([[300, 10, 320, 20]]))


# ---- the published form -------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Pictures of many sizes with one to three digits: {split: {N: (picture, boxes)}}."""
    counts = {"train": 9, "test": 4, "extra": 5}
    monkeypatch.setattr(svhn_numbers, "_COUNTS", counts)
    monkeypatch.setattr(svhn_numbers, "_VALID", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    contents = {}
    for split, count in counts.items():
        contents[split] = {}
        for n in range(1, 3 * count, 3):  # 1, 4, 7, 10, …: by number, not by name
            height, width = rng.integers(30, 60, 2)
            picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
            corners = rng.integers(0, 15, (int(rng.integers(1, 4)), 2))
            contents[split][n] = picture, np.hstack([corners, corners + rng.integers(5, 15)])
    return contents


def struct(content) -> bytes:
    """digitStruct.mat as MATLAB 7.3 writes it: references to names, boxes and, of many, numbers."""
    h5py = pytest.importorskip("h5py")
    raw = io.BytesIO()
    with h5py.File(raw, "w") as file:
        refs, names, boxes = file.create_group("#refs#"), [], []

        def store(array):
            return refs.create_dataset(str(len(refs)), data=array).ref

        for n, (_, sides) in content.items():
            names.append(store(np.array([[ord(c)] for c in f"{n}.png"], np.uint16)))
            group = refs.create_group(f"box{n}")
            left, top, right, bottom = sides.T.astype(float)
            fields = {"left": left, "top": top, "width": right - left, "height": bottom - top}
            for key, values in (fields | {"label": 1 + 0 * left}).items():
                if len(values) == 1:
                    group[key] = np.array([[values[0]]])
                else:
                    kept = [[store(np.array([[value]]))] for value in values]
                    group.create_dataset(key, data=np.array(kept, h5py.ref_dtype))
            boxes.append(group.ref)
        whole = file.create_group("digitStruct")
        for key, references in (("name", names), ("bbox", boxes)):
            whole.create_dataset(key, data=np.array([[r] for r in references], h5py.ref_dtype))
    return raw.getvalue()


def members(split, content):
    files = {}
    for n, (picture, _) in content.items():
        file = io.BytesIO()
        picture.save(file, "PNG")
        files[f"{split}/{n}.png"] = file.getvalue()
    return files | {f"{split}/digitStruct.mat": struct(content), f"{split}/see_bboxes.m": b"%"}


def write(folder, split, files, packed):
    if not packed:
        (folder / split).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / f"{split}.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("packed", [False, True])
def test_the_published_files(small, tmp_path, packed):
    for split in ("train", "test"):
        write(tmp_path / "svhn_numbers", split, members(split, small[split]), packed)
    expected = {s: np.stack([cut(*small[s][n]) for n in sorted(small[s])]) for s in small}
    for _ in range(2):  # read, then kept
        data = load("svhn_numbers", tmp_path)
        train, valid, test = (images.pixels for images in data.splits.values())
        assert (train == expected["train"][:7]).all() and data.name == "svhn_numbers"
        assert (valid == expected["train"][7:, :, 5:59, 5:59]).all()
        assert (test == expected["test"][:, :, 5:59, 5:59]).all() and data.shape == (3, 54, 54)
        digits = [len(boxes) for _, boxes in small["test"].values()]
        assert data.splits["test"].labels.tolist() == digits
    with pytest.raises(
        UserError, match=r"no extra/digitStruct\.mat or extra\.tar\.gz.*download it"
    ):
        load("svhn_numbers", tmp_path, extra=True)
    write(tmp_path, "extra", members("extra", small["extra"]), packed)
    data = load("svhn_numbers", tmp_path, extra=True)
    more = np.concatenate([expected["train"][:7], expected["extra"]])
    assert (data.splits["train"].pixels == more).all() and "extra" in data.name


def test_boxes(small, tmp_path):
    boxes = read_boxes(struct(small["train"]), tmp_path)
    assert len(boxes) == 9
    for n, (_, sides) in small["train"].items():
        assert (boxes[f"{n}.png"] == sides).all()


@pytest.mark.parametrize("packed", [False, True])
def test_files_that_are_not_right(small, tmp_path, packed):
    write(tmp_path, "test", members("test", small["test"]), packed)
    files = members("train", small["train"])

    def refused(told, **changed):
        for path in [*(tmp_path / "train").glob("*"), *tmp_path.glob("train.tar.gz")]:
            path.unlink()
        changed = {f"train/{k.replace('_', '.')}": v for k, v in changed.items()}
        now = {name: content for name, content in (files | changed).items() if content is not None}
        write(tmp_path, "train", now, packed)
        with pytest.raises(UserError, match=told) as error:
            load("svhn_numbers", tmp_path)
        assert "\n" not in str(error.value)

    whole = files["train/digitStruct.mat"]
    refused("not a complete digitStruct.mat", digitStruct_mat=whole[:-1000])
    refused("not a complete digitStruct.mat", digitStruct_mat=b"")
    refused("has 4 numbers, not the official 9", digitStruct_mat=struct(small["test"]))
    refused("has 8 pictures with boxes", **{"4_png": None})
    refused(r"4\.png is not a readable picture", **{"4_png": b"junk"})
    far = small["train"] | {4: (small["train"][4][0], np.array([[900, 1, 950, 9]]))}
    refused(r"4\.png: the digits' box .* get a new copy", digitStruct_mat=struct(far))
    if packed:
        refused(r"not a complete archive \(no train/digitStruct\.mat in it", digitStruct_mat=None)
        path = tmp_path / "train.tar.gz"
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(UserError, match=r"train\.tar\.gz is not a complete archive"):
            load("svhn_numbers", tmp_path)


def test_h5py_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(UserError, match=r"h5py is not installed: `pip install 'drawnet\[data\]'`"):
        read_boxes(b"", tmp_path / "digitStruct.mat")


# ---- the part -----------------------------------------------------------------------------------


@pytest.fixture
def write_part(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(svhn_numbers, "_PART_COUNT", 6)
    monkeypatch.setattr(svhn_numbers, "_PART_VALID", 2)

    def write(**changed):
        cells = []
        for k in range(12):
            file = io.BytesIO()
            Image.new("RGB", (20 + k, 30), (10 * k, 1, 2)).save(file, "PNG")
            cells.append(file.getvalue())
        columns = {
            "image": cells,
            "split": ["train"] * 6 + ["test"] * 6,
            "number": [*range(1, 7), *range(1, 7)],
            "digits": ["12", "3"] * 6,
            "boxes": [[1, 2, 8, 9, 9, 2, 15, 9], [1, 2, 8, 9]] * 6,
        }
        parquet.write_table(pa.table(columns | changed), tmp_path / "svhn_colour_512.parquet")

    return write


def test_the_part(write_part, tmp_path):
    write_part()
    data = load("svhn_numbers", tmp_path)
    assert [len(images) for images in data.splits.values()] == [4, 2, 6]
    red = [images.pixels[:, 0].max((1, 2)) for images in data.splits.values()]
    assert np.concatenate(red).tolist() == [10 * k for k in range(12)]
    assert data.splits["train"].labels.tolist() == [2, 1, 2, 1]
    with pytest.raises(UserError, match="has no extra numbers"):
        load("svhn_numbers", tmp_path, extra=True)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"number": [*range(1, 7), *range(2, 8)]}, "is not the first 6 of train and of test"),
        ({"boxes": [[1, 2, 8, 9]] * 12}, "train 1: not four sides for each digit"),
        ({"digits": [""] * 12, "boxes": [[1]] * 12}, "train 1: not four sides for each digit"),
        ({"image": [b"junk"] * 12}, "train 1 is not a readable picture"),
    ],
)
def test_a_part_that_is_not_right(write_part, tmp_path, changed, told):
    write_part(**changed)
    with pytest.raises(UserError, match=told):
        load("svhn_numbers", tmp_path)


DAMAGED = """
import ctypes, io, pathlib, h5py
from drawnet.data.svhn_numbers import read_boxes
from drawnet.errors import UserError

buffer = io.BytesIO()
h5py.File(buffer, "w").close()
try:
    read_boxes(buffer.getvalue()[:-8], pathlib.Path("digitStruct.mat"))
except UserError as kept:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
"""


def test_an_error_that_somebody_keeps_does_not_crash_the_end_of_the_process():
    pytest.importorskip("h5py")
    assert subprocess.run([sys.executable, "-c", DAMAGED]).returncode == 0
