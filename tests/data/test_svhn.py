"""SVHN's digits: the published MATLAB files at a thousandth of the size, and the part."""

import io

import numpy as np
import pytest
from PIL import Image

from drawnet.data import load, svhn
from drawnet.errors import UserError

PART = "svhn, 7,136 digits of the test file, split 6,000/500/636"


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Counts a thousandth of the real ones; pixels (N, 3, 32, 32) and labels of each file."""
    counts = {"train": 73, "test": 26, "extra": 53}
    monkeypatch.setattr(svhn, "_COUNTS", counts)
    monkeypatch.setattr(svhn, "_VALID", 5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    return {
        split: (rng.integers(0, 256, (n, 3, 32, 32), np.uint8), rng.integers(0, 10, n))
        for split, n in counts.items()
    }


def write_mat(folder, split, pixels, labels, **changed):
    """As published: X (32, 32, 3, N), y (N, 1) of 1..10, compressed."""
    scipy_io = pytest.importorskip("scipy.io")
    arrays = {"X": pixels.transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)[:, None]}
    arrays["y"] = arrays["y"].astype(np.uint8)
    kept = {key: value for key, value in (arrays | changed).items() if value is not None}
    scipy_io.savemat(folder / f"{split}_32x32.mat", kept, do_compression=True)


def test_facts(real_data):
    data = load("svhn", real_data)
    assert (data.shape, data.levels) == ((3, 32, 32), 256)
    sizes = [len(images) for images in data.splits.values()]
    first = [5, 2, 1, 0, 6, 1, 9, 1, 1, 8]
    if data.name == "svhn":
        assert sizes == [68_000, 5_257, 26_032]
        assert data.splits["test"].labels[:10].tolist() == first
        return
    assert (data.name, sizes) == (PART, [6_000, 500, 636])
    assert "a part" in data.description
    labels = np.concatenate([images.labels for images in data.splits.values()])
    assert labels[0] == first[0] and labels[1] == first[9] == 8
    assert np.bincount(labels).tolist() == [493, 1361, 1142, 784, 739, 629, 534, 538, 472, 444]


def test_the_published_files(small, tmp_path):
    (tmp_path / "svhn").mkdir()
    write_mat(tmp_path, "train", *small["train"])
    with pytest.raises(UserError, match=r"no test_32x32\.mat in .*drawnet fetch svhn"):
        load("svhn", tmp_path)
    write_mat(tmp_path / "svhn", "test", *small["test"])
    for _ in range(2):  # read, then kept
        data = load("svhn", tmp_path)
        assert [len(images) for images in data.splits.values()] == [68, 5, 26]
        for key in (0, 1):
            got = [(i.pixels, i.labels)[key] for i in data.splits.values()]
            assert (np.concatenate(got[:2]) == small["train"][key]).all()
            assert (got[2] == small["test"][key]).all()
        assert data.splits["train"].pixels.flags.c_contiguous and data.name == "svhn"


def test_extra_digits(small, tmp_path):
    for split in ("train", "test"):
        write_mat(tmp_path, split, *small[split])
    with pytest.raises(UserError, match=r"no extra_32x32\.mat in .* download it from http"):
        load("svhn", tmp_path, extra=True)
    write_mat(tmp_path, "extra", *small["extra"])
    data = load("svhn", tmp_path, extra=True)
    assert [len(images) for images in data.splits.values()] == [68 + 53, 5, 26]
    assert "extra" in data.name
    assert (data.splits["train"].pixels[68:] == small["extra"][0]).all()
    assert (data.splits["train"].labels[68:] == small["extra"][1]).all()
    assert (data.splits["valid"].pixels == small["train"][0][68:]).all()
    assert len(load("svhn", tmp_path).splits["train"]) == 68


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"X": np.zeros((32, 32, 3, 72), np.uint8)}, "has 72 digits, not the official 73"),
        ({"X": np.zeros((3, 32, 32, 73), np.uint8)}, r"'X' is uint8 \(3, 32, 32, 73\), not"),
        ({"X": np.zeros((32, 32, 3, 73))}, "'X' is float64"),
        ({"X": None}, "has no array 'X'"),
        ({"y": None}, "has no labels"),
        ({"y": np.ones((72, 1), np.uint8)}, "has 72 labels, not the official 73"),
        ({"y": np.zeros((73, 1), np.uint8)}, r"others than 1\.\.10"),
        ({"y": np.full((73, 1), 11, np.uint8)}, r"others than 1\.\.10"),
        ({"y": np.ones((73, 1))}, r"others than 1\.\.10"),
    ],
)
def test_files_that_are_not_right(small, tmp_path, changed, told):
    write_mat(tmp_path, "test", *small["test"])
    write_mat(tmp_path, "train", *small["train"], **changed)
    with pytest.raises(UserError, match=rf"train_32x32\.mat.*{told}"):
        load("svhn", tmp_path)


def test_a_truncated_file(small, tmp_path):
    write_mat(tmp_path, "test", *small["test"])
    write_mat(tmp_path, "train", *small["train"])
    path = tmp_path / "train_32x32.mat"
    whole = path.read_bytes()
    for length in (0, 50, 1000, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"train_32x32\.mat") as error:
            load("svhn", tmp_path)
        assert "\n" not in str(error.value)


# ---- the part -----------------------------------------------------------------------------------


def write_part(folder, count, **changed):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    cells = []
    for k in range(count):
        file = io.BytesIO()
        Image.new("RGB", (32, 32), (k % 251, k // 251, 7)).save(file, "PNG", compress_level=0)
        cells.append(file.getvalue())
    columns = {"image": cells, "label": np.arange(count) % 10, "index": np.arange(count) * 2}
    parquet.write_table(pa.table(columns | changed), folder / "svhn_cropped_test_7136.parquet")


def test_the_part(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_part(tmp_path, 7_136)
    data = load("svhn", tmp_path)
    assert data.name == PART
    pixels = np.concatenate([images.pixels for images in data.splits.values()])
    assert (pixels[:, 0, 0, 0] + 251 * pixels[:, 1, 3, 4].astype(int) == np.arange(7_136)).all()
    with pytest.raises(UserError, match="has no extra digits"):
        load("svhn", tmp_path, extra=True)


def test_the_official_files_win(small, tmp_path):
    write_part(tmp_path, 30)
    for split in ("train", "test"):
        write_mat(tmp_path, split, *small[split])
    assert load("svhn", tmp_path).name == "svhn"


def test_a_part_that_is_not_right(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_part(tmp_path, 30)
    with pytest.raises(UserError, match="has 30 digits, not the official 7136"):
        load("svhn", tmp_path)
    monkeypatch.setattr(svhn, "_PART_DIGITS", 30)
    write_part(tmp_path, 30, index=np.arange(30)[::-1])
    with pytest.raises(UserError, match=r"not in the order of test_32x32\.mat"):
        load("svhn", tmp_path)
    write_part(tmp_path, 30, label=np.full(30, 10))
    with pytest.raises(UserError, match=r"others than 0\.\.9"):
        load("svhn", tmp_path)
