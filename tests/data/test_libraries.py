"""Data sets of other libraries, and of one's own code, as data sets in memory."""

import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from drawnet.data import Dataset, load, manifest
from drawnet.data.config import Data
from drawnet.data.libraries import as_dataset
from drawnet.errors import UserError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 7, 6, 3), np.uint8)
GREY = RNG.integers(0, 256, (40, 7, 6), np.uint8)
LABELS = np.arange(40) % 4


def pairs(data: Dataset) -> set[tuple[bytes, int]]:
    return {
        (image.tobytes(), -1 if images.labels is None else int(images.labels[k]))
        for images in data.splits.values()
        for k, image in enumerate(images.pixels)
    }


def expected(pixels, labels=LABELS):
    if pixels.ndim == 4:
        pixels = pixels.transpose(0, 3, 1, 2)
    return {(p.tobytes(), int(k)) for p, k in zip(pixels, labels, strict=True)}


class Pictures(TorchDataset):
    """As torchvision's are: pictures and labels."""

    classes = ["a", "b", "c", "d"]  # noqa: RUF012

    def __init__(self, pixels, item=lambda picture, label: (picture, label)):
        self.pictures, self.item = [Image.fromarray(p) for p in pixels], item

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, k):
        if not 0 <= k < len(self):
            raise IndexError
        return self.item(self.pictures[k], int(LABELS[k]))


@pytest.mark.parametrize("pixels", [PIXELS, GREY])
def test_a_torch_data_set_of_pictures(pixels):
    data = as_dataset(Pictures(pixels))
    assert pairs(data) == expected(pixels) and data.classes == ("a", "b", "c", "d")
    assert data.name == "Pictures" and data.shape == (3 if pixels.ndim == 4 else 1, 7, 6)
    alone = as_dataset(Pictures(pixels, lambda picture, _: picture))
    assert pairs(alone) == expected(pixels, [-1] * 40) and alone.classes == ()
    items = [(Image.fromarray(p), int(k)) for p, k in zip(pixels, LABELS, strict=True)]
    assert pairs(as_dataset(items)) == expected(pixels)


def test_a_torch_data_set_of_tensors():
    x = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255
    assert pairs(as_dataset(TensorDataset(x, torch.from_numpy(LABELS)))) == expected(PIXELS)
    assert pairs(as_dataset(TensorDataset(x))) == expected(PIXELS, [-1] * 40)
    assert pairs(as_dataset((x, LABELS))) == expected(PIXELS)
    assert pairs(as_dataset(x, LABELS)) == expected(PIXELS)


def test_splits_of_data_sets():
    parts = {"train": slice(20), "validation": slice(20, 30), "test": slice(30, 40)}
    for make in (lambda p, k: Pictures(p), lambda p, k: (p, k)):
        data = as_dataset({name: make(PIXELS[s], LABELS[s]) for name, s in parts.items()})
        for split, part in zip(("train", "valid", "test"), parts.values(), strict=True):
            found = data.splits[split]
            assert np.array_equal(found.pixels, PIXELS[part].transpose(0, 3, 1, 2)), split


def test_pictures_of_several_sizes_are_brought_to_one():
    mixed = [*PIXELS[:20], *(np.ascontiguousarray(p.transpose(1, 0, 2)) for p in PIXELS[20:])]
    with pytest.raises(UserError, match=r"of several shapes.*give size="):
        as_dataset(Pictures(mixed))
    data = as_dataset(Pictures(mixed), size=5)
    assert data.shape == (3, 5, 5) and sum(map(len, data.splits.values())) == 40
    some_grey = [*PIXELS[:20], *GREY[20:]]
    found = pairs(as_dataset(Pictures(some_grey)))
    thrice = np.concatenate((PIXELS[:20], np.repeat(GREY[20:, ..., None], 3, -1)))
    assert found == expected(thrice)


# ---- Hugging Face -------------------------------------------------------------------------------


@pytest.fixture
def hugging():
    return pytest.importorskip("datasets")


def table(hugging, pixels, **columns):
    features = {"image": hugging.Image(), **{k: f for k, (f, _) in columns.items()}}
    pictures = [Image.fromarray(p) for p in pixels]
    values = {"image": pictures, **{k: v for k, (_, v) in columns.items()}}
    return hugging.Dataset.from_dict(values, hugging.Features(features))


@pytest.mark.parametrize("pixels", [PIXELS, GREY])
def test_a_hugging_face_data_set(hugging, pixels):
    names = hugging.ClassLabel(names=["a", "b", "c", "d"])
    data = as_dataset(table(hugging, pixels, label=(names, LABELS.tolist())))
    assert pairs(data) == expected(pixels) and data.classes == ("a", "b", "c", "d")
    coarse = (hugging.Value("int64"), (LABELS // 2).tolist())
    both = table(hugging, pixels, fine_label=(names, LABELS.tolist()), coarse=coarse)
    assert pairs(as_dataset(both)) == expected(pixels)
    assert pairs(as_dataset(both, "coarse")) == expected(pixels, LABELS // 2)
    with pytest.raises(
        UserError, match="no column of data is called 'coars'; did you mean 'coarse'"
    ):
        as_dataset(both, "coars")


def test_its_splits_and_arrays(hugging):
    parts = {"train": slice(30), "test": slice(30, 40)}
    made = {k: table(hugging, PIXELS[s]) for k, s in parts.items()}
    with pytest.warns(UserWarning, match="no valid images: a tenth of train"):
        data = as_dataset(hugging.DatasetDict(made))
    assert np.array_equal(data.splits["test"].pixels, PIXELS[30:].transpose(0, 3, 1, 2))
    assert len(data.splits["train"]) + len(data.splits["valid"]) == 30
    lists = hugging.Dataset.from_dict({"pixels": (GREY / 255).tolist(), "y": LABELS.tolist()})
    assert pairs(as_dataset(lists)) == expected(GREY)


def test_two_columns_of_pictures_are_not_guessed(hugging):
    pictures = [Image.fromarray(p) for p in PIXELS]
    two = hugging.Dataset.from_dict({"a": pictures, "b": pictures})
    with pytest.raises(UserError, match=r"which column of images\? it has a, b"):
        as_dataset(two)
    assert pairs(as_dataset(two, key="b")) == expected(PIXELS, [-1] * 40)


# ---- what is refused ----------------------------------------------------------------------------


class Endless(IterableDataset):
    def __iter__(self):
        yield from PIXELS


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (Endless(), "Endless has no length"),
        (DataLoader(TensorDataset(torch.zeros(4, 1, 5, 5))), "gives its items in a row only"),
        (iter(PIXELS), "gives its items in a row only"),
        (Pictures(PIXELS, lambda p, k: {"image": p}), "its items are mappings"),
        (Pictures(PIXELS, lambda p, k: (k, k)), r"item 0 is no image: int \(\)"),
        (Pictures([]), "no length, or no items"),
        (np.zeros(5), r"give \(N, H, W\)"),
        ("nowhere", "no data set, file or folder is called 'nowhere'"),
        ({"training": PIXELS, "other": PIXELS}, "no split is called 'other'"),
        (3, r"give \(N, H, W\)"),
    ],
)
def test_anything_else_is_refused_in_one_line(source, why):
    with pytest.raises(UserError, match=why) as error:
        as_dataset(source)
    assert "\n" not in str(error.value)


# ---- one's own code -----------------------------------------------------------------------------

CODE = """
import numpy as np

def squares(n: int = 30, bright: bool = False):
    pixels = np.zeros((int(n), 6, 6), np.uint8)
    pixels[:, 2:4, 2:4] = 255
    pixels[np.arange(int(n)), 0, np.arange(int(n)) % 6] = 255 if bright else 100
    return pixels, np.arange(int(n)) % 2

def words():
    return "a text"

NUMBER = 3
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A file of one's own, which nothing has imported."""
    import sys

    path = tmp_path / "own_squares.py"
    path.write_text(CODE, encoding="utf-8")
    yield path
    sys.modules.pop("own_squares", None)


def test_a_function_of_ones_own_gives_data(code):
    data = as_dataset(f"{code}:squares")
    assert data.shape == (1, 6, 6) and data.name == "own_squares:squares"
    assert data.splits["train"].labels is not None
    again = load("own_squares:squares", n=20, bright=True)
    assert sum(map(len, again.splits.values())) == 20
    assert Data("own_squares:squares", options={"n": "20"}).load().shape == (1, 6, 6)
    with pytest.raises(UserError, match="no option of own_squares:squares is called 'm'"):
        load("own_squares:squares", m=2)


def test_a_name_in_a_file_is_no_reason_to_import(code, monkeypatch):
    monkeypatch.chdir(code.parent)
    with pytest.raises(UserError, match="the data are own_squares:squares, of a file outside"):
        load("own_squares:squares")
    settings = Data("own_squares:squares")
    with pytest.raises(UserError, match="of a file outside"):
        manifest.load(settings, None)
    assert manifest.load(settings, None, name=f"{code}:squares").name == "own_squares:squares"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("words", "gives 'a text', and no images"),
        ("NUMBER", "is no function or class that gives data"),
        ("square", "no class or function of .* is called 'square'; did you mean 'squares'"),
    ],
)
def test_code_that_gives_no_data_is_refused(code, name, why):
    with pytest.raises(UserError, match=why):
        as_dataset(f"{code}:{name}")


def test_nothing_of_other_libraries_is_imported():
    import subprocess
    import sys

    check = (
        "import sys, drawnet; drawnet.as_dataset; "
        "assert not {'datasets', 'wandb', 'mlflow', 'tensorboard'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)
    assert importlib.util.find_spec("torchvision") is None
