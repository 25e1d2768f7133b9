"""Chairs: procedural ones, and files in the published forms."""

import io

import numpy as np
import pytest
from PIL import Image

from drawnet.data import _parametric, about, chairs, load
from drawnet.data._render import render_solids, render_surface, voxel_surface
from drawnet.data.chairs import VIEWS, renderings
from drawnet.data.io import cache
from drawnet.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def voxels_of(count):
    """Stools of different heights, (count, 32, 32, 32)."""
    voxels = np.zeros((count, 32, 32, 32), np.uint8)
    for k, stool in enumerate(voxels):
        stool[8:24, 8:24, 20 - k : 24 - k] = stool[8:24, 21:24, 20 - k :] = 1
        for x in (8, 21):
            for y in (8, 21):
                stool[x : x + 3, y : y + 3, : 20 - k] = 1
    return voxels


def write_voxels(path, voxels):
    np.savez(path, voxels=np.packbits(voxels, axis=-1), shape=voxels.shape[1:])


def write_renders(path, sprites, masks):
    """Sprites and masks (N, 62, 64, 64), as the published columns."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"model": list(range(len(sprites))), "sprite": [], "mask": []}
    for key, pictures in (("sprite", sprites), ("mask", 255 * masks)):
        for stack in pictures:
            cell, picture = io.BytesIO(), Image.fromarray(stack.reshape(-1, 64))
            picture.convert("1" if key == "mask" else "RGB").save(cell, "PNG")
            columns[key].append(cell.getvalue())
    parquet.write_table(pa.table(columns), path)


def test_views():
    assert VIEWS.shape == (62, 2) and VIEWS[0].tolist() == [0, 20] and VIEWS[31].tolist() == [0, 30]
    assert np.diff(VIEWS[:31, 0]) == pytest.approx(np.full(30, 360 / 31))
    told = chairs.encoded(np.array([[90, 30], [180, 20]]))
    assert told.shape == (2, 4) and told[0] == pytest.approx([1, 0, 0.5, 0.75**0.5], abs=1e-6)
    assert told[1, :2] == pytest.approx([0, -1], abs=1e-6)


def test_procedural(tmp_path, monkeypatch):
    found = renderings(tmp_path, models=3, size=16)
    assert found.name == "chairs, procedural, 3 parametric models, seed 0"
    assert found.sprites.shape == (3, 62, 3, 16, 16) and found.masks.shape == (3, 62, 16, 16)
    colours, masks = render_solids(_parametric.chair(0, 2), VIEWS, 16)
    assert (found.sprites[2] == colours).all() and (found.masks[2] == masks).all()
    assert len(list(cache.folder().glob("chairs-*.npy"))) == 6
    with monkeypatch.context() as patch:
        patch.setattr(chairs, "render_solids", None)
        again = renderings(tmp_path, models=3, size=16)
    assert (again.sprites == found.sprites).all() and (again.masks == found.masks).all()
    more = renderings(tmp_path, models=4, size=16)
    assert (more.sprites[:3] == found.sprites).all(), "a chair stays what it is"
    other = renderings(tmp_path, models=3, size=16, seed=1)
    assert (other.sprites != found.sprites).any() and "seed 1" in other.name


def test_greys_are_the_luma_of_the_colours(tmp_path):
    colour, grey = (renderings(tmp_path, models=1, size=16, channels=c) for c in (3, 1))
    assert grey.sprites.shape == (1, 62, 1, 16, 16) and "grey 16x16" in grey.description
    luma = np.tensordot(colour.sprites[0], [0.299, 0.587, 0.114], (1, 0))
    assert np.abs(grey.sprites[0, :, 0] - luma).max() <= 0.51
    assert (grey.masks == colour.masks).all()


def test_as_a_data_set(tmp_path):
    data = load("chairs", tmp_path, models=21, size=8, channels=1)
    assert data.name == "chairs, procedural, 21 parametric models, seed 0"
    assert [len(images) // 62 for images in data.splits.values()] == [17, 2, 2]
    assert (
        data.shape == (1, 8, 8) and data.levels == 256 and data.licence == about("chairs").licence
    )
    whole = renderings(tmp_path, models=21, size=8, channels=1).sprites
    assert (data.splits["valid"].pixels == whole[17:19].reshape(-1, 1, 8, 8)).all()
    assert data.splits["test"].labels.tolist() == 2 * list(range(62))


def test_voxels(tmp_path):
    voxels = voxels_of(3)
    write_voxels(
        tmp_path / "chairs_voxels.npz", np.concatenate([voxels[:2], voxels[:1], voxels[2:]])
    )
    found = renderings(tmp_path, "voxels", size=32)
    assert found.name == "chairs, 3 of 3 models of ModelNet10, from voxels"
    assert found.sprites.shape == (3, 62, 1, 32, 32)
    pictures, masks = render_surface(voxel_surface(voxels[2], 2), VIEWS, 32)
    assert (found.sprites[2] == pictures).all() and (found.masks[2] == masks).all()
    part = renderings(tmp_path, "voxels", models=2, size=32)
    assert part.name == "chairs, 2 of 3 models of ModelNet10, from voxels"
    assert (part.sprites == found.sprites[:2]).all()
    write_voxels(tmp_path / "chairs_voxels.npz", voxels * np.array([1, 0, 1])[:, None, None, None])
    with pytest.raises(UserError, match="one without voxels"):
        renderings(tmp_path, "voxels")


def test_renders(tmp_path):
    rng = np.random.default_rng(0)
    sprites = rng.integers(0, 256, (3, 62, 64, 64), np.uint8)
    masks = rng.integers(0, 2, (3, 62, 64, 64), np.uint8)
    write_renders(tmp_path / "chairs_renders.parquet", sprites, masks)
    found = renderings(tmp_path, "renders")
    assert (found.sprites[:, :, 0] == sprites).all() and (found.masks == masks).all()
    assert found.name == "chairs, renderings of ModelNet10's models, as given"
    part = renderings(tmp_path, "renders", models=2)
    assert (part.sprites == found.sprites[:2]).all() and part.name.endswith("the first 2 of 3")
    assert part.description.startswith("2 chairs × 62 views, grey 64x64")
    write_renders(tmp_path / "chairs_renders.parquet", sprites[:, :61], masks)
    with pytest.raises(UserError, match="row 0: 64x3904 pixels, not 64x3968"):
        renderings(tmp_path, "renders")


def test_facts(real_data):
    """The given renderings, and the same models' voxels rendered here."""
    if not (real_data / "chairs_renders.parquet").is_file():
        pytest.skip("no chairs_renders.parquet")
    given = renderings(real_data, "renders")
    assert given.sprites.shape == (320, 62, 1, 64, 64) and given.sprites.max() == 255
    own = renderings(real_data, "voxels", models=3)
    assert own.name == "chairs, 3 of 839 models of ModelNet10, from voxels"
    for n in range(3):
        both = given.masks[n] & own.masks[n]
        shared = both.sum((1, 2)) / (given.masks[n] | own.masks[n]).sum((1, 2))
        assert shared.mean() > 0.85, "the same silhouette from the same side"
        gap = np.abs(given.sprites[n, :, 0].astype(float) - own.sprites[n, :, 0])
        assert gap[both == 1].mean() < 20, "the same light"


def test_what_cannot_be(tmp_path):
    for options, told in (
        ({"which": "aubry"}, "chairs has no 'aubry': choose which='procedural'"),
        ({"models": 2}, "2 models cannot be split in three"),
        ({"models": -1}, "models is -1"),
        ({"size": 1000}, "size is 1000"),
        ({"channels": 2}, "procedural cannot be 2 channels"),
        ({"which": "voxels", "channels": 3}, "voxels cannot be 3 channels"),
        ({"which": "renders", "size": 32}, "renders cannot be 1 channels at 32x32"),
        ({"which": "voxels"}, r"no chairs_voxels\.npz in .*which='procedural', which needs no"),
        ({"which": "renders"}, r"no chairs_renders\.parquet in .*DRAWNET_DATA"),
    ):
        with pytest.raises(UserError, match=told):
            load("chairs", tmp_path, **options)
    write_voxels(tmp_path / "chairs_voxels.npz", voxels_of(3))
    with pytest.raises(UserError, match="models=4, but there are 3"):
        load("chairs", tmp_path, which="voxels", models=4)
