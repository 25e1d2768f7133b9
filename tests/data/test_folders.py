"""Folders and files as people have them: classes, splits, labels, endings, grounds and depths."""

import gzip
import io
import json
import warnings

import numpy as np
import pytest
from PIL import Image

from drawnet.data import load
from drawnet.errors import UserError


def put(path, k: int = 0, size=(8, 8), mode: str = "RGB", kind: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(k).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, kind or "PNG")


def quietly(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load(str(path), **options)


def count(data) -> dict[str, int]:
    return {split: len(images) for split, images in data.splits.items()}


# ---- classes ------------------------------------------------------------------------------------


def test_sub_folders_are_classes(tmp_path):
    shade = {"b": 10, "a": 60, "Zoë": 200}
    for name, grey in shade.items():
        (tmp_path / name / "deeper").mkdir(parents=True)
        for k in range(12):
            Image.new("L", (5, 5), grey + k).save(tmp_path / name / "deeper" / f"{k}.png")
    data = load(str(tmp_path))
    assert data.classes == ("Zoë", "a", "b")
    for images in data.splits.values():
        for pixels, label in zip(images.pixels, images.labels, strict=True):
            assert 0 <= int(pixels[0, 0, 0]) - shade[data.classes[label]] < 12
    assert load(str(tmp_path), labels="none").splits["train"].labels is None


def test_numbers_are_classes_in_their_order(tmp_path):
    for k in range(33):
        put(tmp_path / "all" / str(k % 11) / f"{k}.png", k)
    assert load(str(tmp_path)).classes == tuple(str(k) for k in range(11))


def test_pictures_beside_sub_folders_have_no_classes(tmp_path):
    for k in range(9):
        put(tmp_path / "ab"[k % 2] / f"{k}.png", k)
    put(tmp_path / "loose.png")
    with pytest.warns(UserWarning, match=r"no classes, as 1 of 10 pictures .*\(loose\.png\)"):
        data = load(str(tmp_path))
    assert data.classes == () and data.splits["train"].labels is None


# ---- splits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("valid", ["val", "valid", "Validation"])
def test_split_folders_are_splits(tmp_path, valid):
    for k in range(12):
        put(tmp_path / ("train", "train", valid, "test")[k % 4] / "ab"[k // 4 % 2] / f"{k}.png", k)
    put(tmp_path / "extra" / "x.png")
    with pytest.warns(UserWarning, match=r"not read, .*: 1 of 13 files \(extra/x\.png\)"):
        data = load(str(tmp_path))
    assert count(data) == {"train": 6, "valid": 3, "test": 3} and data.classes == ("a", "b")
    assert data.splits["train"].labels.tolist() == [0, 0, 0, 0, 1, 1]


def test_a_split_that_is_not_there_is_a_tenth_of_train(tmp_path):
    for k in range(60):
        put(tmp_path / "train" / f"{k}.png", k)
    for k in range(7):
        put(tmp_path / "test" / f"{k}.png", 100 + k)
    with pytest.warns(UserWarning, match="has no valid images: a tenth of train"):
        counts = count(load(str(tmp_path)))
    assert counts["test"] == 7 and counts["train"] + counts["valid"] == 60
    assert 1 <= counts["valid"] <= 15


def test_a_class_of_trains(tmp_path):
    for k in range(20):
        put(tmp_path / ("train", "car", "ship")[k % 3] / f"{k}.png", k)
    data = load(str(tmp_path))
    assert data.classes == ("car", "ship", "train") and sum(count(data).values()) == 20


def test_a_split_without_labels(tmp_path):
    for k in range(12):
        put(tmp_path / "train" / "ab"[k % 2] / f"{k}.png", k)
        put(tmp_path / "val" / "ab"[k % 2] / f"{k}.png", 50 + k)
        put(tmp_path / "test" / f"{k}.png", 90 + k)
    data = load(str(tmp_path))
    assert data.splits["test"].labels is None
    assert data.splits["valid"].labels.tolist() == [0] * 6 + [1] * 6
    put(tmp_path / "val" / "loose.png")
    with pytest.raises(UserError, match=r"no label: 1 of 13 images, the first val/loose\.png"):
        load(str(tmp_path))


# ---- what is a picture --------------------------------------------------------------------------


def test_endings_do_not_decide(tmp_path):
    kinds = {"a.jfif": "JPEG", "b.avif": "AVIF", "c": "PNG", "d.dat": "GIF", "e.png": "WEBP"}
    for k, (name, kind) in enumerate(kinds.items()):
        put(tmp_path / name, k, kind=kind)
    for name in ("notes.txt", "list.csv", "Thumbs.db", "x.heic"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"4 of 9 files \(Thumbs\.db, list\.csv, notes\.txt, …\)"):
        assert sum(count(load(str(tmp_path))).values()) == 5


def test_a_picture_of_a_known_ending_that_is_none_is_not_left_out(tmp_path):
    for k in range(5):
        put(tmp_path / f"{k}.png", k)
    (tmp_path / "x.jfif").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"x\.jfif is not a readable picture"):
        load(str(tmp_path))


# ---- sizes and channels -------------------------------------------------------------------------


def test_the_own_size_is_kept(tmp_path):
    for k in range(5):
        put(tmp_path / f"{k}.png", k, (28, 20))
    data = load(str(tmp_path))
    assert data.shape == (3, 28, 20)
    got = {pixels.tobytes() for s in data.splits.values() for pixels in s.pixels}
    for k in range(5):
        pixels = np.random.default_rng(k).integers(0, 256, (28, 20, 3), np.uint8)
        assert pixels.transpose(2, 0, 1).tobytes() in got


def test_pictures_on_their_side_have_the_size_that_one_sees(tmp_path):
    for k in range(5):
        exif = Image.Exif()
        exif[0x0112] = 6
        pixels = np.random.default_rng(k).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.jpg", exif=exif)
    assert load(str(tmp_path)).shape == (3, 8, 6)


def test_several_sizes_are_scaled_and_it_is_said(tmp_path):
    for k in range(5):
        put(tmp_path / f"{k}.png", k, (28, 20 + k % 2))
    with pytest.warns(UserWarning, match="several sizes are scaled to 32x32"):
        assert load(str(tmp_path)).shape == (3, 32, 32)


def test_grey_pictures_in_three_channels_are_grey(tmp_path):
    for k in range(6):
        grey = np.random.default_rng(k).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(grey).convert("RGB").save(tmp_path / f"{k}.png")
    assert load(str(tmp_path)).shape == (1, 8, 8)
    assert load(str(tmp_path), grey=False).shape == (3, 8, 8)
    put(tmp_path / "colour.png")
    assert load(str(tmp_path)).shape == (3, 8, 8)
    assert load(str(tmp_path), grey=True).shape == (1, 8, 8)


# ---- grounds and depths -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grey", "background", "said"),
    [(0, 255, "dark, stand on white"), (255, 0, "bright, stand on black")],
)
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_shapes_stand_out_from_their_ground(tmp_path, grey, background, said, mode):
    for k in range(5):
        picture = Image.new("RGBA", (8, 8), (grey, grey, grey, 0))
        picture.paste((grey, grey, grey, 255), (k, 2, k + 3, 6))
        picture.convert(mode).save(tmp_path / f"{k}.png")
    with pytest.warns(UserWarning, match=f"transparent pictures, whose shapes are {said}"):
        pixels = load(str(tmp_path)).splits["train"].pixels
    assert ((pixels == grey).sum((1, 2, 3)) == 12).all()
    assert ((pixels == background).sum((1, 2, 3)) == 52).all()
    chosen = load(str(tmp_path), background="white").splits["train"].pixels
    assert chosen[0, 0, 0, 0] == 255


def test_one_ground_for_all(tmp_path):
    """Of bright shapes one is dark: it too stands on black."""
    for k in range(9):
        picture = Image.new("RGBA", (8, 8))
        picture.paste((30 if k == 4 else 250,) * 3 + (255,), (0, 0, 4, 4))
        picture.save(tmp_path / f"{k}.png")
    data = quietly(tmp_path)
    assert all((images.pixels[:, :, -1, -1] == 0).all() for images in data.splits.values())


@pytest.mark.parametrize(
    ("highest", "white"), [(4000, 4095), (1000, 1023), (60_000, 65_535), (255, 255), (300, 511)]
)
def test_deep_pictures_are_scaled_by_the_range_that_is_there(tmp_path, highest, white):
    values = np.linspace(0, highest, 64).round().astype(np.uint16).reshape(8, 8)
    for k in range(5):
        Image.fromarray(values if k == 2 else values // 4).save(tmp_path / f"{k}.tif")
    with pytest.warns(UserWarning, match=f"5 deep pictures go up to {white}, which is white"):
        data = load(str(tmp_path))
    got = np.concatenate([images.pixels[:, 0] for images in data.splits.values()])
    brightest = got[got.max((1, 2)).argmax()]
    assert (brightest == np.rint(values * (255 / white))).all()
    assert sorted(got.max((1, 2)).tolist())[0] == round(highest // 4 * 255 / white)


def test_floats_up_to_one(tmp_path):
    for k in range(5):
        Image.fromarray(np.full((8, 8), k / 4, np.float32)).save(tmp_path / f"{k}.tif")
    with pytest.warns(UserWarning, match="go up to 1, which is white"):
        data = load(str(tmp_path))
    got = sorted(int(p[0, 0, 0]) for images in data.splits.values() for p in images.pixels)
    assert got == [0, 64, 128, 191, 255]


# ---- archives of other libraries ----------------------------------------------------------------


def arrays(n: int, k: int = 0, shape=(6, 5)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(k)
    return rng.integers(0, 256, (n, *shape), np.uint8), rng.integers(0, 4, n)


def same(images, pixels, labels) -> bool:
    return (images.pixels[:, 0] == pixels).all() and (images.labels == np.ravel(labels)).all()


def test_keras(tmp_path):
    (x, y), (a, b) = arrays(60), arrays(9, 1)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y[:, None], x_test=a, y_test=b)
    data = quietly(tmp_path / "mnist.npz")
    assert same(data.splits["test"], a, b)
    assert count(data)["train"] + count(data)["valid"] == 60
    index = {image.tobytes(): int(label) for image, label in zip(x, y, strict=True)}
    for image, label in zip(data.splits["valid"].pixels, data.splits["valid"].labels, strict=True):
        assert index[image.tobytes()] == label


def test_medmnist(tmp_path):
    parts = {s: arrays(n, n) for s, n in (("train", 20), ("val", 5), ("test", 7))}
    named = {f"{s}_images": x for s, (x, _) in parts.items()}
    named |= {f"{s}_labels": y[:, None] for s, (_, y) in parts.items()}
    np.savez(tmp_path / "x.npz", **named)
    data = load(str(tmp_path / "x.npz"))
    for split, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        assert same(data.splits[split], *parts[name])
    several = named | {f"{s}_labels": np.eye(4)[y] for s, (_, y) in parts.items()}
    np.savez(tmp_path / "x.npz", **several)
    assert load(str(tmp_path / "x.npz")).splits["train"].labels is None


def test_words_and_fine_labels(tmp_path):
    x, y = arrays(30)
    words = np.array(["cat", "dog", "ant", "bee"])[y]
    np.savez(tmp_path / "x.npz", images=x, fine_labels=words, coarse_labels=y // 2)
    data = load(str(tmp_path / "x.npz"))
    assert data.classes == ("ant", "bee", "cat", "dog")
    index = {image.tobytes(): word for image, word in zip(x, words, strict=True)}
    for images in data.splits.values():
        for image, label in zip(images.pixels, images.labels, strict=True):
            assert index[image.tobytes()] == data.classes[label]
    coarse = load(str(tmp_path / "x.npz"), labels="coarse_labels")
    assert coarse.classes == () and coarse.splits["train"].labels.max() == 1


def test_splits_of_two_sizes(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=arrays(9)[0], x_test=arrays(9, 1, (6, 7))[0])
    with pytest.raises(UserError, match=r"several sizes or channels: x_train \(9, 6, 5\), x_test"):
        load(str(tmp_path / "x.npz"))


@pytest.mark.parametrize(
    ("convert", "said"),
    [
        (lambda x: (x / 255).astype(np.float32), None),
        (lambda x: x.astype(np.float64), None),
        (lambda x: x.astype(np.int64), None),
        (lambda x: x.astype(np.uint16) * 257, "values go up to 65535; 65535 is white"),
    ],
)
def test_arrays_of_other_types(tmp_path, convert, said):
    x = arrays(20)[0]
    x[0, 0, 0] = 255
    np.savez(tmp_path / "x.npz", convert(x))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load(str(tmp_path / "x.npz"))
    assert [said in str(w.message) for w in caught] == ([True] if said else [])
    got = np.concatenate([images.pixels[:, 0] for images in data.splits.values()])
    assert sorted(map(bytes, got)) == sorted(map(bytes, x))


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_arrays_of_zero_and_one_are_black_and_white(tmp_path, kind):
    x = (arrays(20)[0] > 127).astype(kind)
    np.savez(tmp_path / "x.npz", x)
    pixels = quietly(tmp_path / "x.npz").splits["train"].pixels
    assert set(np.unique(pixels)) == {0, 255}


def idx(array) -> bytes:
    array = np.asarray(array, np.uint8)
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_folders_as_torchvision_has_them(tmp_path, zipped):
    parts = {"train": arrays(20), "t10k": arrays(8, 1)}
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, (x, y) in parts.items():
        for role, array in (("images-idx3", x), ("labels-idx1", y)):
            content = gzip.compress(idx(array)) if zipped else idx(array)
            (raw / f"{name}-{role}-ubyte{'.gz' if zipped else ''}").write_bytes(content)
    data = quietly(tmp_path)
    assert same(data.splits["test"], *parts["t10k"]) and count(data)["valid"] >= 1


def test_several_idx_sets_in_a_folder(tmp_path):
    for name in ("letters", "digits"):
        for split in ("train", "test"):
            x, y = arrays(9, len(name + split))
            for role, array in (("images-idx3", x), ("labels-idx1", y)):
                (tmp_path / f"emnist-{name}-{split}-{role}-ubyte").write_bytes(idx(array))
    with pytest.raises(UserError, match=r"which set of IDX files\? it has emnist-digits, emnist-l"):
        load(str(tmp_path))
    data = quietly(tmp_path, key="emnist-letters")
    assert same(data.splits["test"], *arrays(9, len("letterstest")))


# ---- parquet shards -----------------------------------------------------------------------------


def encoded(k: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), k).save(buffer, "PNG")
    return buffer.getvalue()


def test_shards_as_hugging_face_has_them(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names = ["cat", "dog", "ant"]
    feature = {"label": {"names": names, "_type": "ClassLabel"}}
    meta = {b"huggingface": json.dumps({"info": {"features": feature}}).encode()}
    shards = {"train-00000-of-00002": 20, "train-00001-of-00002": 30, "test-00000-of-00001": 50}
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("a card")
    for name, first in shards.items():
        cells = [{"bytes": encoded(k), "path": "x.png"} for k in range(first, first + 10)]
        columns = {"image": cells, "label": [k % 3 for k in range(first, first + 10)]}
        table = pa.table(columns).replace_schema_metadata(meta)
        parquet.write_table(table, tmp_path / "data" / f"{name}.parquet")
    with pytest.warns(UserWarning) as said:
        data = load(str(tmp_path))
    assert "1 of 4 files (README.md)" in str(said[0].message)
    assert data.classes == tuple(names)
    assert data.splits["test"].pixels[:, 0, 0, 0].tolist() == list(range(50, 60))
    assert count(data)["train"] + count(data)["valid"] == 20
    for images in data.splits.values():
        assert (images.pixels[:, 0, 0, 0] % 3 == images.labels).all()


def test_a_column_of_words(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    words = [("b", "a")[k % 2] for k in range(12)]
    table = pa.table({"image": [encoded(k) for k in range(12)], "fine_label": words})
    parquet.write_table(table, tmp_path / "x.parquet")
    data = load(str(tmp_path / "x.parquet"))
    assert data.classes == ("a", "b")
    for images in data.splits.values():
        assert ((images.pixels[:, 0, 0, 0] + 1) % 2 == images.labels).all()
