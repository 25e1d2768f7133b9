"""A user's own images: every kind of picture, array and fault."""

import gzip
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawnet.data import images, load
from drawnet.data.io import arrays, folders, pictures
from drawnet.data.io.collection import Own
from drawnet.errors import UserError

SPLITS = ("train", "valid", "test")


def photo(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def fill(folder, n: int = 12):
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        photo(seed=k).save(folder / f"{k:03}.png")
    return folder


def everything(data) -> np.ndarray:
    return np.concatenate([data.splits[split].pixels for split in SPLITS])


def one(path) -> np.ndarray:
    """A picture as (C, H, W)."""
    image = np.asarray(pictures.read(path, str(path)))
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


# ---- folders and splits -------------------------------------------------------------------------


def test_a_folder(tmp_path):
    fill(tmp_path / "cats" / "deep" / "er", 7)
    fill(tmp_path / "cats", 5)
    fill(tmp_path / "cats" / ".hidden", 3)
    (tmp_path / "cats" / ".x.png").write_bytes(b"")
    (tmp_path / "cats" / "notes.txt").write_text("not a picture")
    (tmp_path / "cats" / "000.PNG").write_bytes((tmp_path / "cats" / "000.png").read_bytes())
    with pytest.warns(UserWarning, match=r"not read, .*: 1 of 14 files \(notes\.txt\)"):
        data = load(str(tmp_path / "cats"))
    assert (data.name, data.levels, data.shape) == ("cats", 256, (3, 30, 40))
    assert sum(map(len, data.splits.values())) == 13
    (tmp_path / "cats" / "notes.txt").unlink()
    assert load(str(tmp_path / "cats"), grey=True, size=(20, 24)).shape == (1, 20, 24)


def test_without_a_path_it_is_images_in_the_data_folder(tmp_path):
    fill(tmp_path / "images")
    assert load("images", tmp_path).checksum == load(str(tmp_path / "images")).checksum


def test_adding_pictures_moves_none(tmp_path):
    names = [f"a/{k}.png" for k in range(3000)]
    before, after = images.divide(names[::2]), images.divide(names)
    for split in SPLITS:
        assert {names[::2][k] for k in before[split]} <= {names[k] for k in after[split]}
    assert [len(after[split]) for split in SPLITS] == pytest.approx([2400, 300, 300], rel=0.15)


def test_splits_are_the_same_for_ever():
    assert images.divide([str(k) for k in range(30)])["test"] == [5, 6, 20]
    assert images.divide([str(k) for k in range(30)])["valid"] == [2, 15]


@pytest.mark.parametrize("n", [3, 4, 5, 10])
def test_no_split_is_empty(n):
    for trial in range(100):
        split = images.divide([f"{trial}/{k}" for k in range(n)])
        assert min(map(len, split.values())) >= 1
        assert sorted(k for own in split.values() for k in own) == list(range(n))


def test_names_are_compared_in_one_unicode_form(tmp_path):
    """A Mac writes é as two characters; the split must not notice."""
    found = {}
    for form, folder in (("\u00e9", "a"), ("e\u0301", "b")):
        (tmp_path / folder).mkdir()
        photo().save(tmp_path / folder / f"{form}.png")
        found[folder] = folders.from_folder(tmp_path / folder, Own()).names
    assert found["a"] == found["b"] == ["\u00e9.png"]


def test_too_few(tmp_path):
    with pytest.raises(UserError, match="has 2 usable images: train, valid and test need 3"):
        load(str(fill(tmp_path / "two", 2)))
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none has no pictures, and no IDX or parquet"):
        load(str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"images is not there"):
        load("images", tmp_path)


def test_corrupt_pictures(tmp_path):
    folder = fill(tmp_path / "x")
    whole = (folder / "003.png").read_bytes()
    (folder / "003.png").write_bytes(whole[: len(whole) // 2])
    (folder / "004.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"003\.png is not a readable picture \(.*skip_corrupt"):
        load(str(folder))
    with pytest.warns(UserWarning, match=r"2 images left out; the first: .*003\.png"):
        data = load(str(folder), skip_corrupt=True)
    assert sum(map(len, data.splits.values())) == 10
    (folder / "003.png").write_bytes(whole)
    (folder / "004.png").unlink()
    assert sum(map(len, load(str(folder)).splits.values())) == 11


def test_decompression_bombs(tmp_path, monkeypatch):
    path = fill(tmp_path / "x") / "000.png"
    for limit in (1000, 100):  # Pillow warns above the limit and refuses above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UserError, match=rf"000\.png has more than {limit:,} pixels"):
            one(path)


# ---- kinds of picture ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp", "gif", "jpg", "jpeg"])
def test_formats(tmp_path, suffix):
    path, picture = tmp_path / f"x.{suffix}", photo(4, 3).resize((40, 30))
    picture.save(path, **({"lossless": True} if suffix == "webp" else {}))
    error = np.abs(one(path).astype(int) - np.asarray(picture).transpose(2, 0, 1)).mean()
    assert error <= {"jpg": 10, "jpeg": 10, "gif": 10}.get(suffix, 0)


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert one(tmp_path / "x.gif")[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("mode", "clear"), [("RGBA", (9, 9, 9, 0)), ("LA", (9, 0))])
def test_transparent_is_white(tmp_path, mode, clear):
    picture = Image.new(mode, (4, 4), clear)
    picture.putpixel((1, 0), (100,) * (len(clear) - 1) + (255,))
    picture.save(tmp_path / "x.png")
    read = one(tmp_path / "x.png")
    assert (read[:, 0, 0] == 255).all() and (read[:, 0, 1] == 100).all()


def test_palettes_with_and_without_transparency(tmp_path):
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "a.png")
    assert one(tmp_path / "a.png")[:, 0, :2].T.tolist() == [[255, 0, 0], [0, 0, 255]]
    picture.save(tmp_path / "b.png", transparency=0)
    assert one(tmp_path / "b.png")[:, 0, :2].T.tolist() == [[255, 255, 255], [0, 0, 255]]


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    for suffix in ("png", "tif", "pgm"):
        Image.fromarray(values).save(tmp_path / f"x.{suffix}")
        assert one(tmp_path / f"x.{suffix}")[0, 0].tolist() == [0, 0, 1, 1, 128, 255], suffix


def test_pixels_without_a_known_white_are_refused(tmp_path):
    for mode, content in (("F", -0.5), ("F", float("nan")), ("F", 1e9), ("I", 70_000)):
        Image.new(mode, (4, 4), content).save(tmp_path / "x.tif")
        with pytest.raises(UserError, match="have no known white"):
            one(tmp_path / "x.tif")


def test_bilevel_and_cmyk(tmp_path):
    Image.new("1", (4, 4), 1).save(tmp_path / "x.png")
    assert (one(tmp_path / "x.png") == 255).all() and one(tmp_path / "x.png").shape[0] == 1
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=100)
    red, green, blue = one(tmp_path / "x.jpg").astype(int)[:, 0, 0]
    assert red > 250 and green < 5 and blue < 5


def test_exif_orientation_is_honoured(tmp_path):
    picture, exif = Image.new("RGB", (6, 4), "black"), Image.Exif()
    picture.putpixel((0, 0), (255, 255, 255))
    exif[0x0112] = 6  # to be turned 90° clockwise
    picture.save(tmp_path / "x.png", exif=exif)
    read = one(tmp_path / "x.png")
    assert read.shape == (3, 6, 4) and read[0, 0, 3] == 255 and read[0].sum() == 255


# ---- sizes --------------------------------------------------------------------------------------


def test_the_right_size_is_left_alone():
    for fit in ("crop", "pad", "stretch"):
        fitted = pictures.fitted(photo(20, 10), (10, 20), fit)
        assert (np.asarray(fitted) == np.asarray(photo(20, 10))).all()


def test_fits():
    """A black field with a white left half, twice as wide as high, onto a square."""
    wide = Image.new("L", (80, 40), 0)
    wide.paste(255, (0, 0, 40, 40))
    crop, pad, stretch = (
        np.asarray(pictures.fitted(wide, (20, 20), fit)) for fit in ("crop", "pad", "stretch")
    )
    assert crop[10, 2] == stretch[10, 2] == 255 and crop[10, 17] == stretch[10, 17] == 0
    assert (pad[:5] == 255).all() and (pad[15:] == 255).all() and (pad[5:15, 13:] == 0).all()


def test_extreme_shapes():
    for size in ((1, 999), (999, 1), (1, 1)):
        for fit in ("crop", "pad", "stretch"):
            assert pictures.fitted(Image.new("RGB", size), (8, 6), fit).size == (6, 8)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": 0}, "size is 0x0: give a side"),
        ({"size": (3, -1)}, "size is .*at least 1"),
        ({"size": (3, 3, 3)}, r"size is \(3, 3, 3\): choose an integer or height and width"),
        ({"size": "abc"}, "size is 'abc': choose an integer or height and width"),
        ({"size": True}, "size is True"),
        ({"grey": "no"}, "grey is 'no': choose true or false"),
        ({"fit": "squeeze"}, "fit is 'squeeze': choose 'crop', 'pad' or 'stretch'"),
        ({"layout": "hwn"}, "layout is 'hwn': choose"),
        ({"background": "red"}, "background is 'red': choose 'auto', 'white' or 'black'"),
        ({"data_dir": "/"}, "option of data set"),
        ({"name": "/"}, "option of data set"),
        ({"colour": True}, "option of data set"),
    ],
)
def test_wrong_options(tmp_path, options, told):
    with pytest.raises(UserError, match=told):
        load(str(fill(tmp_path / "x")), **options)


# ---- arrays -------------------------------------------------------------------------------------


def sorted_rows(pixels: np.ndarray) -> np.ndarray:
    return np.array(sorted(pixels.reshape(len(pixels), -1).tolist()))


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("shape", "layout", "axes"),
    [
        ((20, 9, 7), None, None),
        ((20, 9, 3), "nhw", None),
        ((20, 9, 7, 1), None, (0, 3, 1, 2)),
        ((20, 9, 7, 3), None, (0, 3, 1, 2)),
        ((20, 1, 9, 7), None, (0, 1, 2, 3)),
        ((20, 3, 9, 7), None, (0, 1, 2, 3)),
        ((9, 7, 3, 20), None, (3, 2, 0, 1)),
        ((9, 7, 1, 20), None, (3, 2, 0, 1)),
        ((20, 3, 9, 3), "nchw", (0, 1, 2, 3)),
        ((20, 3, 9, 3), "nhwc", (0, 3, 1, 2)),
    ],
)
def test_layouts_keep_every_pixel_and_the_size(tmp_path, shape, layout, axes):
    array = numbers(*shape)
    np.savez(tmp_path / "x.npz", pictures=array)
    data = load(str(tmp_path / "x.npz"), layout=layout)
    expected = array[:, None] if axes is None else array.transpose(axes)
    assert data.shape == expected.shape[1:]
    assert (sorted_rows(everything(data)) == sorted_rows(expected)).all()


@pytest.mark.parametrize(
    ("shape", "layout", "told"),
    [
        ((20, 3, 9, 3), None, r"axes of \(20, 3, 9, 3\) are ambiguous.*layout='nhw'"),
        ((20, 5, 9, 7), None, "are ambiguous"),
        ((20, 9, 3), None, "are ambiguous"),
        ((20, 9, 7), "nhwc", r"shape \(20, 9, 7\) has no layout 'nhwc'"),
        ((20, 3, 9, 7), "nhwc", r"are \(3, 9, 7\) \(H, W, C\), and 1, 3 or 4"),
        ((0, 9, 7), None, "1, 3 or 4"),
    ],
)
def test_layouts_that_are_not_clear(tmp_path, shape, layout, told):
    np.savez(tmp_path / "x.npz", numbers(*shape))
    with pytest.raises(UserError, match=told):
        load(str(tmp_path / "x.npz"), layout=layout)


def test_arrays_can_be_resized_and_greyed_and_four_channels_are_rgba(tmp_path):
    array = numbers(20, 9, 7, 4)
    array[..., 3] = 0
    np.savez(tmp_path / "x.npz", array)
    data = load(str(tmp_path / "x.npz"), size=5, grey=True)
    assert data.shape == (1, 5, 5) and (everything(data) == 255).all()


def test_which_array(tmp_path):
    path, labels = tmp_path / "x.npz", np.arange(20)
    np.savez(path, a=numbers(20, 9, 7), b=numbers(20, 5, 5), labels=labels)
    with pytest.raises(
        UserError, match=r"which array of images\? it has a, b: choose one by key=\.\.\."
    ):
        load(str(path))
    with pytest.raises(UserError, match="no array of images 'c', it has a, b"):
        load(str(path), key="c")
    data = load(str(path), key="b")
    for images_ in data.splits.values():
        assert (images_.pixels[:, 0] == numbers(20, 5, 5)[images_.labels]).all()
    np.savez(path, a=numbers(20, 9))
    with pytest.raises(UserError, match=r"which array of images\? it has none"):
        load(str(path))


def test_idx_files(tmp_path):
    array = numbers(20, 9, 7)
    raw = b"\0\0\x08\x03" + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    for content in (raw, gzip.compress(raw)):
        (tmp_path / "x").write_bytes(content)
        data = load(str(tmp_path / "x"))
        assert (sorted_rows(everything(data)) == sorted_rows(array)).all()


def test_npy_files(tmp_path):
    array = numbers(20, 9, 7, 3)
    np.save(tmp_path / "x.npy", array)
    data = load(str(tmp_path / "x.npy"))
    assert (sorted_rows(everything(data)) == sorted_rows(array.transpose(0, 3, 1, 2))).all()
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    with pytest.raises(UserError, match=r"not a complete \.npy file"):
        load(str(tmp_path / "x.npy"))
    np.save(tmp_path / "x.npy", array / 255)
    again = load(str(tmp_path / "x.npy"))
    assert (sorted_rows(everything(again)) == sorted_rows(everything(data))).all()
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"holds Python objects \(a pickle\)"):
        load(str(tmp_path / "x.npy"))


@pytest.mark.parametrize("key", ["y", "labels"])
def test_mat_files(tmp_path, key):
    """As SVHN's: X (H, W, C, N) and y (N, 1)."""
    scipy_io = pytest.importorskip("scipy.io")
    array, path = numbers(9, 7, 3, 20), tmp_path / "x.mat"
    content = {"X": array, key: np.arange(20, dtype=np.uint8)[:, None], "note": "text"}
    scipy_io.savemat(path, content, do_compression=True)
    data = load(str(path))
    assert data.shape == (3, 9, 7) and sum(map(len, data.splits.values())) == 20
    for images_ in data.splits.values():
        assert (images_.pixels == array.transpose(3, 2, 0, 1)[images_.labels]).all()
    scipy_io.savemat(path, content | {"Z": array})
    with pytest.raises(UserError, match=r"which array of images\? it has X, Z: choose one by key="):
        load(str(path))
    assert load(str(path), key="X").shape == (3, 9, 7)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a complete MATLAB file"):
        load(str(path))
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + b" " * 90)
    with pytest.raises(UserError, match=r"version 7\.3: save it with -v7"):
        load(str(path))


def test_files_of_another_kind(tmp_path):
    photo().save(tmp_path / "x.png")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut")
    for name, told in (
        ("x.png", "not an .npz, .npy, .mat, IDX or parquet file: give one of these, or a folder"),
        ("empty", "not an .npz, .npy, .mat, IDX or parquet file"),
        ("cut.npz", "is not a complete .npz file"),
    ):
        with pytest.raises(UserError, match=told):
            load(str(tmp_path / name))


# ---- parquet ------------------------------------------------------------------------------------


def encoded(n: int) -> list[bytes]:
    buffers = [io.BytesIO() for _ in range(n)]
    for k, buffer in enumerate(buffers):
        photo(32, 32, seed=k).save(buffer, "PNG")
    return [buffer.getvalue() for buffer in buffers]


@pytest.fixture
def write(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def writer(**columns):
        parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
        return str(tmp_path / "x.parquet")

    return writer


@pytest.mark.parametrize("wrapped", [False, True])
def test_parquet(write, wrapped):
    cells = encoded(12)
    cells = [{"bytes": cell, "path": "p"} for cell in cells] if wrapped else cells
    data = load(write(image=cells, label=list(range(12)), note=["n"] * 12))
    assert data.shape == (3, 32, 32)
    for images_ in data.splits.values():
        for pixels, label in zip(images_.pixels, images_.labels, strict=True):
            assert (pixels == np.asarray(photo(32, 32, seed=label)).transpose(2, 0, 1)).all()


def test_parquet_faults(write, monkeypatch):
    path = write(a=encoded(5), b=encoded(5))
    with pytest.raises(
        UserError, match=r"which column of pictures\? it has a, b: choose one by key="
    ):
        load(path)
    path = write(a=[*encoded(4), None, b"junk"])
    with pytest.raises(UserError, match=r"x\.parquet, row 4 is not a readable picture"):
        load(path)
    with pytest.warns(UserWarning, match="2 images left out"):
        assert len(everything(load(path, skip_corrupt=True))) == 4
    Path(path).write_bytes(Path(path).read_bytes()[:200])
    with pytest.raises(UserError, match="not a complete parquet file"):
        load(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.types", None)
    with pytest.raises(UserError, match=r"pip install 'drawnet\[data\]'"):
        load(path)


def test_labels_follow_their_pictures_when_some_are_left_out(write):
    cells = encoded(12)
    cells[3] = b"junk"
    with pytest.warns(UserWarning, match="1 images left out"):
        data = load(write(image=cells, label=list(range(12))), skip_corrupt=True)
    for images_ in data.splits.values():
        for pixels, label in zip(images_.pixels, images_.labels, strict=True):
            assert (pixels == np.asarray(photo(32, 32, seed=label)).transpose(2, 0, 1)).all()


def test_real_parquet_and_npz(real_data):
    """The CIFAR-10 images are stored losslessly: channel means as published."""
    pytest.importorskip("pyarrow")
    assert arrays.from_file(real_data / "frey_faces.npz", Own()).size == (28, 20)
    data = load(str(real_data / "cifar10_test_first1000.parquet"))
    assert data.shape == (3, 32, 32) and len(everything(data)) == 1000
    assert everything(data).mean((0, 2, 3)) == pytest.approx([125.3, 122.95, 113.9], abs=3)


def test_text_in_a_parquet_file_is_never_a_path(tmp_path):
    """A struct whose bytes are text was opened as a file of the reader's disk."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    secret = tmp_path / "secret.png"
    Image.new("L", (8, 8), 77).save(secret)
    cells = [{"bytes": str(secret), "path": str(secret)}] * 4
    parquet.write_table(pa.table({"image": cells}), tmp_path / "set.parquet")
    with pytest.raises(UserError, match="row 0 is not a readable picture"):
        load(str(tmp_path / "set.parquet"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_no_picture(tmp_path):
    """Reading from one would wait without end."""
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="is a device, pipe or socket: name a file"):
        pictures.read(tmp_path / "pipe.png", str(tmp_path / "pipe.png"))
