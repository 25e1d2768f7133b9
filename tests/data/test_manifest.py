"""A run knows its data: moved ones are found, changed ones noticed, classes called by name."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reference
from drawnet import cli, from_arrays
from drawnet.data import manifest
from drawnet.data.config import Data
from drawnet.errors import UserError
from drawnet.training import checkpoint

WORDS = [
    "--examples",
    64,
    "--batch",
    16,
    "--model.steps",
    2,
    "--model.units",
    8,
    "--model.latents",
    2,
]
WORDS += ["--model.read", 2, "--model.write", 3, "--data.binarise", "dynamic"]
WORDS += ["--model.likelihood", "bernoulli", "--precision", "float32", "--data.size", 0]


def drawnet(capsys, *words):
    """A command's exit status, output, and what drawnet said on standard error."""
    status, out, err = reference.drawnet(capsys, *words)
    return status, out, [line for line in err.splitlines() if line.startswith("drawnet:")]


def shapes(folder, n: int = 40):
    """Upright and lying bars, in a class sub-folder each."""
    for k in range(n):
        pixels = np.zeros((8, 8), np.uint8)
        name = ("lying", "upright")[k % 2]
        place = k // 2 % 7
        pixels[(slice(None), slice(place, place + 2))[:: 1 if k % 2 else -1]] = 255
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name / f"{k:02}.png")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A place with a folder of pictures and a conditional run on it, by its relative path."""
    place = tmp_path_factory.mktemp("place")
    shapes(place / "bars")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(place)
        words = ["train", "mnist", "--data.name", "bars", "--out", "run", "--model.classes", 2]
        cli.main([str(word) for word in [*words, *WORDS]])
    return place


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of it that may be changed, and another working folder."""
    shutil.copytree(made, tmp_path / "place")
    for file in ("model", "training"):
        path = tmp_path / "place" / "run" / f"{file}.safetensors"
        tensors, header = checkpoint.load_tensors(path)
        header["data"]["path"] = str(tmp_path / "place" / "bars")
        checkpoint.save_tensors(path, tensors, header)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "place"


def test_the_model_knows_its_data(made):
    known = checkpoint.load_model(made / "run").data
    assert known.path == str((made / "bars").resolve()) and known.classes == ("lying", "upright")
    assert sum(known.counts.values()) == 40 and known.shape == (1, 8, 8)


def test_a_relative_path_counts_from_where_the_run_was_made(place, capsys):
    status, out, lines = drawnet(capsys, "evaluate", place / "run")
    assert status == 0 and "bars, test" in out and lines == []


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate"],
        ["sample", "-n", 2, "--neighbours", "near.png"],
        ["compare", "--samples", 20, "--images", 20],
    ],
)
def test_moved_data_are_found_by_their_name(place, capsys, words):
    (place / "bars").rename(place / "moved")
    command, *rest = words
    status, _, lines = drawnet(capsys, command, place / "run", *rest)
    assert status == 2 and "are not there: say where they are now by --data.name" in lines[-1]
    status, _, lines = drawnet(
        capsys, command, place / "run", *rest, "--data.name", place / "moved"
    )
    assert status == 0 and not any("trained" in line for line in lines)


def test_resume_with_moved_data(place, capsys):
    (place / "bars").rename(place / "moved")
    words = ["train", "mnist", "--out", place / "run", "--model.classes", 2, *WORDS, "--resume"]
    status, out, _ = drawnet(capsys, *words, "--data.name", place / "moved")
    assert status == 0 and "64 examples" in out
    assert drawnet(capsys, *words, "--data.name", "bars")[0] == 2


def change(folder, how: str) -> None:
    if how == "more":
        for k in range(20):
            Image.new("L", (8, 8), k).save(folder / "lying" / f"new{k}.png")
    elif how == "pixels":
        Image.new("L", (8, 8), 99).save(folder / "lying" / "00.png")
    elif how == "class":
        (folder / "lying").rename(folder / "flat")
    elif how == "size":
        shutil.rmtree(folder)
        for name in "ab":
            (folder / name).mkdir(parents=True)
            for k in range(9):
                Image.new("L", (9, 9), k).save(folder / name / f"{k}.png")


CHANGES = {
    "more": r"train has \d\d images, and had \d\d",
    "pixels": "as many images, but other pixels",
    "class": "classes: lying gone and flat new",
    "size": r"images are \(1, 9, 9\), and were \(1, 8, 8\)",
}


@pytest.mark.parametrize("how", CHANGES)
def test_resume_refuses_changed_data(place, capsys, how):
    change(place / "bars", how)
    before = (place / "run" / "training.safetensors").read_bytes()
    words = ["train", "mnist", "--out", place / "run", "--model.classes", 2, *WORDS, "--resume"]
    status, _, lines = drawnet(capsys, *words, "--data.name", place / "bars")
    assert status == 2 and "was trained on other data: " in lines[-1]
    assert re.search(CHANGES[how], lines[-1])
    assert (place / "run" / "training.safetensors").read_bytes() == before


@pytest.mark.parametrize("how", ["more", "pixels"])
def test_evaluation_says_that_data_have_changed(place, capsys, how):
    change(place / "bars", how)
    status, _, (line,) = drawnet(capsys, "evaluate", place / "run")
    assert status == 0 and "bars is not as it was when the model was trained: " in line
    assert re.search(CHANGES[how], line)


def test_classes_of_another_name_are_no_labels(place, capsys):
    change(place / "bars", "class")
    status, _, lines = drawnet(capsys, "evaluate", place / "run")
    assert status == 2 and "has the classes flat, upright; the model was trained on" in lines[-1]


def test_a_class_is_called_by_its_name(place, capsys, tmp_path):
    for label in ("upright", "1"):
        words = ["sample", place / "run", "-n", 3, "--label", label, "--out", f"{label}.png"]
        assert drawnet(capsys, *words)[0] == 0
    assert Path("upright.png").read_bytes() == Path("1.png").read_bytes()
    status, _, lines = drawnet(capsys, "sample", place / "run", "--label", "uprigt")
    assert (
        status == 2 and lines[-1] == "drawnet: no class is called 'uprigt'; did you mean 'upright'?"
    )
    status, _, lines = drawnet(capsys, "sample", "mnist_conditional", "--label", "seven")
    assert status == 2 and "is no number, and the model knows no names of classes" in lines[-1]
    Image.new("L", (8, 8)).save("x.png")
    words = ["reconstruct", place / "run", "x.png", "--label", "lying", "--out", "back.png"]
    assert drawnet(capsys, *words)[0] == 0


def test_a_name_that_is_a_number_wins(place, capsys):
    (place / "bars" / "upright").rename(place / "bars" / "0")
    (place / "bars" / "lying").rename(place / "bars" / "7")
    words = ["train", "mnist", "--data.name", place / "bars", "--out", "seven"]
    assert drawnet(capsys, *words, "--model.classes", 2, *WORDS)[0] == 0
    assert checkpoint.load_model(Path("seven")).data.classes == ("0", "7")
    assert drawnet(capsys, "sample", "seven", "-n", 1, "--label", "7")[0] == 0
    assert drawnet(capsys, "sample", "seven", "-n", 1, "--label", "2")[0] == 2


def test_differences_by_hand():
    pixels = np.arange(40, dtype=np.uint8)[:, None, None] + np.zeros((1, 6, 6), np.uint8)
    labels = np.arange(40) % 3
    now = manifest.describe(from_arrays(pixels, labels))
    assert manifest.difference(now, manifest.describe(from_arrays(pixels, labels))) == ""
    other = manifest.describe(from_arrays(pixels, labels[::-1]))
    assert manifest.difference(now, other) == "the same images, but other labels"
    old = manifest.Manifest(now.checksum, 256)
    assert manifest.difference(old, now) == "" and manifest.difference(old, other) == ""
    swapped = [
        manifest.describe(from_arrays(pixels, labels, classes=names)) for names in ("abc", "acb")
    ]
    assert manifest.difference(*swapped) == "classes in another order"


def test_data_that_are_nowhere():
    with pytest.raises(UserError, match="no data set, file or folder is called 'letters'"):
        manifest.load(Data("letters"), None)
    then = manifest.Manifest("", 256, path="/nowhere/letters")
    with pytest.raises(
        UserError, match="the run's data, /nowhere/letters, are not there: say where"
    ):
        manifest.load(Data("letters"), then)
