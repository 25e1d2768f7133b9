"""FER+ from parquet, and Frey's film from either file."""

import io

import numpy as np
import pytest
from PIL import Image

from drawnet.data import faces, load
from drawnet.errors import UserError


def test_facts(real_data):
    data = load("faces", real_data)
    assert data.name == "faces, FER+, the first 18,000 of 28,558 for training"
    assert [len(images) for images in data.splits.values()] == [18_000, 3_579, 3_573]
    assert (data.shape, data.levels) == ((1, 48, 48), 256)
    train = data.splits["train"]
    assert train.labels[:2].tolist() == [0, 0]
    assert set(train.labels.tolist()) <= set(range(10)) and np.bincount(train.labels).argmax() == 0
    rows = {image.tobytes() for image in train.pixels}
    assert len(rows) == 18_000
    for split in ("valid", "test"):
        assert not rows & {image.tobytes() for image in data.splits[split].pixels}


def test_facts_of_frey(real_data):
    data = load("faces", real_data, which="frey")
    assert [len(images) for images in data.splits.values()] == [1_565, 200, 200]
    assert (data.shape, data.levels, data.name) == ((1, 28, 20), 256, "faces, Frey")
    trajectory = np.concatenate([images.pixels for images in data.splits.values()])[:, 0].astype(
        float
    )
    step = np.abs(np.diff(trajectory, axis=0)).mean()
    shuffled = trajectory[np.random.default_rng(0).permutation(len(trajectory))]
    assert step < np.abs(np.diff(shuffled, axis=0)).mean() / 1.5, "frames follow each other"
    rows, columns = (np.abs(np.diff(trajectory, axis=axis)).mean() for axis in (1, 2))
    assert max(rows, columns) < 25, "upright, unscrambled: neighbouring pixels are alike"


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Nine faces, none square in content, with votes; written in parquet."""
    monkeypatch.setattr(faces, "_FERPLUS", {"train": 4, "valid": 3, "test": 2})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    pixels, votes = rng.integers(0, 256, (9, 48, 48), np.uint8), rng.integers(0, 5, (9, 10))
    votes[0] = [0, 3, 0, 3, 0, 0, 0, 0, 0, 0]
    for split, part in (("train", slice(0, 4)), ("valid", slice(4, 7)), ("test", slice(7, 9))):
        write(tmp_path, split, pixels[part], votes[part])
    return pixels, votes


def write(folder, split, pixels, votes):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    cells = [io.BytesIO() for _ in pixels]
    for cell, image in zip(cells, pixels, strict=True):  # as colour, like the files at hand
        Image.fromarray(image).convert("RGB").save(cell, "WEBP", lossless=True)
    columns = {"image": [cell.getvalue() for cell in cells]}
    columns |= {f"votes_{kind}": votes[:, k] for k, kind in enumerate(faces._VOTES)}
    parquet.write_table(pa.table(columns), folder / f"faces_ferplus_{split}.parquet")


def test_ferplus(small, tmp_path):
    pixels, votes = small
    data = load("faces", tmp_path)
    everything = np.concatenate([images.pixels for images in data.splits.values()])
    assert (everything[:, 0] == pixels).all()
    labels = np.concatenate([images.labels for images in data.splits.values()])
    assert labels[0] == 1 and (labels == votes.argmax(1)).all()


def test_ferplus_that_is_not_right(small, tmp_path):
    pixels, votes = small
    write(tmp_path, "test", pixels[:3], votes[:3])
    with pytest.raises(UserError, match="has 3 faces, not the official 2"):
        load("faces", tmp_path)
    write(tmp_path, "test", pixels[:2], votes[:2] * 0)
    with pytest.raises(UserError, match="a face without votes"):
        load("faces", tmp_path)
    write(tmp_path, "test", pixels[:2, :47], votes[:2])
    with pytest.raises(UserError, match="48x47 pixels, not 48x48"):
        load("faces", tmp_path)
    (tmp_path / "faces_ferplus_test.parquet").unlink()
    with pytest.raises(UserError, match=r"no faces_ferplus_test\.parquet in .*download it from"):
        load("faces", tmp_path)
    with pytest.raises(UserError, match="which is 'tfd': choose 'ferplus' or 'frey'"):
        load("faces", tmp_path, which="tfd")


def test_frey_from_either_file(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    with pytest.raises(UserError, match=r"no frey_rawface\.mat in .*download it from https://"):
        load("faces", tmp_path, which="frey")
    trajectory = np.random.default_rng(0).integers(0, 256, (1_965, 28, 20), np.uint8)
    scipy_io.savemat(tmp_path / "frey_rawface.mat", {"ff": trajectory.reshape(1_965, 560).T})
    data = load("faces", tmp_path, which="frey")
    everything = np.concatenate([images.pixels for images in data.splits.values()])
    assert (everything[:, 0] == trajectory).all() and everything.flags.c_contiguous
    np.savez(tmp_path / "frey_faces.npz", images=trajectory)
    assert load("faces", tmp_path, which="frey").checksum == data.checksum
    np.savez(tmp_path / "frey_faces.npz", images=trajectory[:-1])
    with pytest.raises(UserError, match="has 1964 frames, not the official 1965"):
        load("faces", tmp_path, which="frey")
    (tmp_path / "frey_faces.npz").unlink()
    scipy_io.savemat(tmp_path / "frey_rawface.mat", {"ff": trajectory.reshape(1_965, 560)})
    with pytest.raises(UserError, match=r"'ff' is uint8 \(1965, 560\), not uint8 \(560, -1\)"):
        load("faces", tmp_path, which="frey")
