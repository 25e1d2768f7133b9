"""Omniglot's three containers, and the reduction against double loops."""

import io
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from drawnet.data import _affine, load, omniglot
from drawnet.errors import UserError

COUNTS = {"train": 17_352, "valid": 1_928, "test": 13_180}


def test_facts(real_data):
    data = load("omniglot", real_data)
    assert {split: len(images) for split, images in data.splits.items()} == COUNTS
    assert (data.shape, data.levels) == ((1, 28, 28), 2)
    train, valid, test = (images.labels for images in data.splits.values())
    assert (np.bincount(train) == 18).all() and (np.bincount(valid) == 2).all()
    assert (train.max(), test.min(), test.max()) == (963, 964, 1622)
    assert (np.bincount(test)[964:] == 20).all()


def test_full_size_is_the_drawings_themselves(real_data):
    data = load("omniglot", real_data, size=105)
    with np.load(real_data / "omniglot.npz") as stored:
        bits = np.unpackbits(stored["evaluation"], axis=-1, count=105).reshape(-1, 105, 105)
        first = np.lexsort((stored["character"][964:], stored["alphabet"][964:]))[0]
    assert data.splits["test"].pixels.sum() == bits.sum()
    assert (data.splits["test"].pixels[:20, 0] == bits[20 * first : 20 * first + 20]).all()


def test_a_random_split_has_every_drawing_at_most_once(real_data):
    data = load("omniglot", real_data, size=105, split="random")
    counts = {split: len(images) for split, images in data.splits.items()}
    assert counts == {"train": 22_993, "valid": 1_352, "test": 8_070}
    assert "split at random" in data.description
    everything = load("omniglot", real_data, size=105)
    parts = [
        np.concatenate([d.splits[s].pixels for s in ("train", "valid", "test")])
        for d in (everything, data)
    ]
    known, ours = ([hash(p.tobytes()) for p in part] for part in parts)
    assert not Counter(ours) - Counter(known) and len(ours) == 32_415
    labels = np.concatenate([images.labels for images in data.splits.values()])
    every = np.concatenate([images.labels for images in everything.splits.values()])
    assert set(zip(ours, labels, strict=True)) <= set(zip(known, every, strict=True))
    for images in data.splits.values():
        assert len(np.unique(images.labels)) > 600  # all alphabets are everywhere


@pytest.mark.parametrize("size", [28, 105])
def test_an_affine_map_moves_every_pixel_by_its_formula(size, monkeypatch):
    ink = np.random.default_rng(1).random((2, 105, 105)) < 0.3
    drawings = np.packbits(ink, axis=-1)
    entries = np.array([90, -140, 30, -75, 4, -3])  # thousandths, then pixels
    drawn = entries + np.array([100, 150, 150, 100, 4, 4])
    monkeypatch.setattr(_affine, "integers_each", lambda *_: drawn[None])
    found = omniglot.transformed(drawings, size, np.array([3]))
    matrix, shift = np.eye(2) + entries[:4].reshape(2, 2) / 1000, entries[4:]
    moved = np.zeros((105, 105), bool)
    for y in range(105):
        for x in range(105):
            at = np.floor(matrix @ (y - 52, x - 52) + 0.5 + 1e-9).astype(int) + shift + 52
            if (at >= 0).all() and (at < 105).all():
                moved[y, x] = ink[1][tuple(at)]  # image 3 of 2 is drawing 1
    assert (found[0, 0] == omniglot.reduce(np.packbits(moved, axis=-1), size)).all()


def test_affine_maps_are_for_training_and_new_in_every_epoch(real_data):
    plain, moved = (load("omniglot", real_data, affine=affine) for affine in (False, True))
    for split in ("valid", "test"):
        assert (plain.splits[split].pixels == moved.splits[split].pixels).all()
    train, n = moved.splits["train"].pixels, len(plain.splits["train"])
    assert len(train) == n and (moved.splits["train"].labels == plain.splits["train"].labels).all()
    first, again, next_epoch = (train[np.arange(50) + k] for k in (0, 0, n))
    assert (first == again).all() and (first != next_epoch).any((1, 2, 3)).all()
    assert (first != plain.splits["train"].pixels[:50]).any((1, 2, 3)).all()
    assert abs(first.mean() - plain.splits["train"].pixels[:50].mean()) < 0.02
    assert moved.checksum != plain.checksum


@pytest.mark.parametrize("size", [1, 28, 50, 105])
def test_reduction_against_loops(size):
    """Each pixel's share of ink by fine sampling of its area at 105 · size points a side."""
    ink = np.random.default_rng(size).random((105, 105)) < 0.42
    got = omniglot.reduce(np.packbits(ink, axis=-1)[None, None], size)[0, 0]
    rng = np.random.default_rng(0)
    for j, i in rng.integers(0, size, (20, 2)):
        rows, columns = (np.arange(k * 105, (k + 1) * 105) // size for k in (j, i))
        covered = sum(int(ink[y, x]) for y in rows for x in columns)
        assert got[j, i] == (covered / 105**2 >= 0.4)


def test_the_shares_of_a_pixel_sum_to_its_side():
    for size in (1, 28, 50, 105):
        shares = omniglot.overlap(size)
        assert (shares.sum(1) == 105).all() and (shares.sum(0) == size).all()


# ---- the official layout and the packed one, written small --------------------------------------


@pytest.fixture
def small(monkeypatch):
    """Three and two characters in place of 964 and 659, out of order: drawings by name."""
    monkeypatch.setattr(omniglot, "_CHARACTERS", {"background": 3, "evaluation": 2})
    rng = np.random.default_rng(0)
    names = {"background": [("Zeta", 1), ("Alpha", 2), ("Alpha", 1)]}
    names["evaluation"] = [("Mu", 2), ("Mu", 1)]
    return {p: {n: rng.random((20, 105, 105)) < 0.1 for n in names[p]} for p in names}


def write_zip(path, part, drawings):
    with zipfile.ZipFile(path, "w") as files:
        for (alphabet, number), inks in drawings.items():
            for k, ink in reversed(list(enumerate(inks, 1))):
                png = io.BytesIO()
                Image.fromarray(~ink).save(png, "PNG")
                name = f"{part}/{alphabet}/character{number:02}/0709_{k:02}.png"
                files.writestr(name, png.getvalue())


def test_official_zips(small, tmp_path):
    (tmp_path / "omniglot").mkdir()
    for part, drawings in small.items():
        write_zip(tmp_path / "omniglot" / f"images_{part}.zip", f"images_{part}", drawings)
    read = omniglot._read_zips(tmp_path)
    for part, drawings in small.items():
        expected = np.stack([drawings[name] for name in sorted(drawings)])
        assert (np.unpackbits(read[part], axis=-1, count=105) == expected).all()


def test_official_zips_that_are_not_right(small, tmp_path):
    path = tmp_path / "images_background.zip"
    short = {name: inks[:19] for name, inks in small["background"].items()}
    write_zip(path, "images_background", short)
    with pytest.raises(UserError, match=r"has 57 drawings, not the official 60"):
        omniglot._read_zip(path, 3)
    write_zip(path, "images_background", {n: i[:, :50] for n, i in small["background"].items()})
    with pytest.raises(UserError, match=r"not a complete zip file \(a drawing of \(50, 105\)\)"):
        omniglot._read_zip(path, 3)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="not a complete zip file"):
        omniglot._read_zip(path, 3)


def packed(**changed):
    arrays = {
        "background": np.zeros((964, 20, 105, 14), np.uint8),
        "evaluation": np.zeros((659, 20, 105, 14), np.uint8),
        "alphabet": np.array(["A"] * 1623),
        "character": np.arange(1623),
    }
    return arrays | changed


def test_packed_characters_come_in_order_of_alphabet_and_number(tmp_path):
    arrays = packed(character=np.arange(1623)[::-1])
    arrays["background"][963, 0] = 255  # the last in the file, the first by number
    arrays["alphabet"][1000] = "9"
    arrays["evaluation"][36, 19] = 255  # the first by alphabet
    np.savez_compressed(tmp_path / "omniglot.npz", **arrays)
    splits = load("omniglot", tmp_path, size=7).splits
    assert splits["train"].pixels[0].all() and splits["train"].pixels.sum() == 49
    assert splits["test"].pixels[19].all() and splits["test"].pixels.sum() == 49


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"background": np.zeros((3, 20, 105, 14), np.uint8)}, "3 background characters, not"),
        ({"evaluation": np.zeros((659, 20, 105, 105), np.uint8)}, r"not uint8 \(-1, 20, 105, 14\)"),
        ({"alphabet": np.array(["A"])}, "1 character names, not the official 1623"),
    ],
)
def test_wrong_arrays(tmp_path, changed, told):
    np.savez_compressed(tmp_path / "omniglot.npz", **packed(**changed))
    with pytest.raises(UserError, match=told):
        load("omniglot", tmp_path)


def test_wrong_options(tmp_path):
    for size in (0, 106):
        with pytest.raises(UserError, match=f"size 1 to 105, not {size}"):
            load("omniglot", tmp_path, size=size)
    with pytest.raises(UserError, match="version is 'iwae': choose 'lake' or 'burda'"):
        load("omniglot", tmp_path, version="iwae")
    with pytest.raises(UserError, match="Burda's omniglot is 28x28, not 32x32"):
        load("omniglot", tmp_path, version="burda", size=32)
    for option in ({"split": "random"}, {"affine": True}):
        with pytest.raises(
            UserError, match=r"Burda's omniglot has a split of its own.*: omit split"
        ):
            load("omniglot", tmp_path, version="burda", **option)


# ---- Burda's file -------------------------------------------------------------------------------


def test_burdas_file(tmp_path, monkeypatch):
    scipy_io = pytest.importorskip("scipy.io")
    monkeypatch.setattr(omniglot, "_BURDA", {"data": 36, "testdata": 5})
    upright = np.random.default_rng(0).integers(0, 256, (41, 28, 28), np.uint8)
    columns = upright.swapaxes(1, 2).reshape(41, 784).T / 255  # MATLAB: column by column
    mat = {"data": columns[:, :36], "testdata": columns[:, 36:]}
    scipy_io.savemat(tmp_path / "chardata.mat", mat)
    data = load("omniglot", tmp_path, version="burda")
    assert data.levels == 256 and "Burda" in data.description
    assert (data.splits["test"].pixels[:, 0] == upright[36:]).all()
    assert (data.splits["valid"].pixels[:, 0] == upright[[17, 35]]).all()
    assert len(data.splits["train"]) == 34

    scipy_io.savemat(tmp_path / "chardata.mat", mat | {"data": columns[:, :35]})
    with pytest.raises(UserError, match=r"no 'data' of shape \(784, 36\)"):
        load("omniglot", tmp_path, version="burda")
    scipy_io.savemat(tmp_path / "chardata.mat", mat | {"data": columns[:, :36] * 255})
    with pytest.raises(UserError, match=r"outside 0\.\.1"):
        load("omniglot", tmp_path, version="burda")
    (tmp_path / "chardata.mat").write_bytes((tmp_path / "chardata.mat").read_bytes()[:900])
    with pytest.raises(UserError, match="not a complete MATLAB file"):
        load("omniglot", tmp_path, version="burda")


def test_burdas_file_missing_or_scipy_missing(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no chardata\.mat in .*download it from https://"):
        load("omniglot", tmp_path, version="burda")
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    (tmp_path / "chardata.mat").write_bytes(b"")
    with pytest.raises(UserError, match=r"scipy is not installed: `pip install 'drawnet\[data\]'`"):
        load("omniglot", tmp_path, version="burda")
