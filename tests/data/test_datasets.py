"""What every data set must be, whichever files are in the folder."""

import inspect
from pathlib import Path

import numpy as np
import pytest

import drawnet.data
from drawnet.data import Dataset, GeneratedImages, Images, about, default_dir, load, names
from drawnet.errors import UserError

FOLDER = Path(drawnet.data.__file__).parent
QUICK = {
    name: {"models": 30} for name in ("chairs", "chair_views")
}  # made here, alike however many
NEEDS_FILES = [name for name in names() if name not in ("digits", "images", *QUICK)]
LAKE_LIKE = np.zeros((4, 1, 2, 2), np.uint8)


def dataset(**changed) -> Dataset:
    splits = {split: Images(LAKE_LIKE + 0) for split in ("train", "valid", "test")} | changed
    return Dataset("toy", "toy", 2, "none", "nowhere", splits)


def test_the_folder_is_the_registry():
    side_by_side = {"config", "manifest", "options", "pipeline", "download", "libraries"}
    files = {p.stem for p in FOLDER.glob("*.py") if p.stem[0] != "_"}
    assert names() == sorted(files - side_by_side)
    assert {"digits", "mnist", "binarized_mnist", "omniglot", "images"} <= set(names())


@pytest.mark.parametrize("name", names())
def test_info_says_what_it_must(name):
    info = about(name)
    assert info.name == name
    for text in (info.description, info.licence, info.source):
        assert text and "\n" not in text
    for file in info.files:
        assert Path(file.name).name == file.name
        assert len(file.sha256) == 64 and int(file.sha256, 16) and file.addresses
        assert all(a.startswith(("http://", "https://")) for a in file.addresses)
        assert all(a.endswith(file.name) for a in file.addresses)


@pytest.mark.parametrize("name", names())
def test_every_option_has_a_default(name):
    module = drawnet.data._module(name)
    first, *options = inspect.signature(module.load).parameters.values()
    assert first.name == "data_dir"
    assert all(option.default is not option.empty for option in options)


@pytest.mark.parametrize("name", [name for name in names() if name != "images"])
def test_real_images(name, real_data):
    """Loads and is what it says; twice the same; torch may have the memory."""
    try:
        data, info = load(name, real_data, **QUICK.get(name, {})), about(name)
    except UserError as why:
        if f"{about(name).origin or name}: no " not in str(why):
            raise
        pytest.skip(str(why))
    assert data.name.split(",")[0] == name, "a part of a set says so after a comma"
    assert (data.licence, data.levels in (2, 256)) == (info.licence, True)
    for images in data.splits.values():
        pixels = images.pixels
        assert pixels.dtype == np.uint8 and len(images) > 0
        assert pixels.shape[1:] == data.shape or images is data.splits["train"]
        if isinstance(pixels, GeneratedImages):
            assert images is data.splits["train"], "validation and test are made once, for good"
            pixels = pixels[:1000]
        assert pixels.flags.c_contiguous and pixels.flags.writeable
        assert images.labels is None or images.labels.dtype == np.int64
    everything = [images.pixels[:10_000] for images in data.splits.values()]
    assert max(p.max() for p in everything) == data.levels - 1
    assert min(p.min() for p in everything) == 0
    assert data.checksum == load(name, real_data, **QUICK.get(name, {})).checksum


@pytest.mark.parametrize("name", NEEDS_FILES)
def test_missing_files_are_named_with_the_cure(name, tmp_path):
    owner = about(name).origin or name
    cure = rf"`drawnet fetch {owner}`" if about(owner).files else "download it from https?://"
    with pytest.raises(UserError, match=rf"{owner}: no \S+.* in .*{cure}") as told:
        load(name, tmp_path)
    assert str(tmp_path) in str(told.value) and "DRAWNET_DATA" in str(told.value)


def test_unknown_names_and_options():
    with pytest.raises(UserError, match="'mnits'; did you mean 'mnist'"):
        load("mnits")
    with pytest.raises(UserError, match=r"'no/such.npz'; there are: .*digits"):
        load("no/such.npz")
    with pytest.raises(UserError, match="data set, file or folder"):
        about("../cli")
    with pytest.raises(UserError, match=r"option of data set 'omniglot' .* 'sise'; .*'size'"):
        load("omniglot", sise=28)
    with pytest.raises(UserError, match=r"option of data set 'digits' .* 'size'"):
        load("digits", size=3)


def test_default_dir(monkeypatch):
    monkeypatch.setenv("DRAWNET_DATA", "/a/b")
    assert default_dir() == Path("/a/b")
    monkeypatch.delenv("DRAWNET_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert default_dir() == Path("/c/drawnet/data")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert default_dir() == Path("/h/.cache/drawnet/data")


def test_a_dataset_checks_itself():
    assert (len(dataset().splits["test"]), dataset().shape) == (4, (1, 2, 2))
    with pytest.raises(ValueError, match="not uint8 NCHW"):
        Images(LAKE_LIKE.astype(np.float32))
    with pytest.raises(ValueError, match="4 images, but labels"):
        Images(LAKE_LIKE, np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="pixels other than 0 and 1"):
        dataset(valid=Images(LAKE_LIKE + np.uint8(2)))
    with pytest.raises(ValueError, match="the set is"):
        dataset(test=Images(np.zeros((4, 1, 2, 3), np.uint8)))
    with pytest.raises(ValueError, match="test is"):
        dataset(test=Images(LAKE_LIKE[:0]))
    with pytest.raises(ValueError, match="splits are"):
        dataset(more=Images(LAKE_LIKE))


def test_the_checksum_sees_every_split_and_shape():
    other = LAKE_LIKE.copy()
    other[3, 0, 1, 1] = 1
    variants = [dataset(), dataset(train=Images(other)), dataset(valid=Images(other))]
    wide = {split: Images(LAKE_LIKE.reshape(4, 1, 1, 4)) for split in ("train", "valid", "test")}
    variants.append(dataset(**wide))
    assert len({data.checksum for data in variants}) == 4
    assert dataset().checksum == dataset().checksum
