"""`train images` looks at a folder, chooses a run that suits it and says so; options override it."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawnet import cli, recipes
from drawnet.data.config import Data
from drawnet.models.conv_draw import ConvDrawConfig
from drawnet.models.draw import DrawConfig
from drawnet.recipes import _own, images
from drawnet.training import checkpoint, loop


def strokes(folder: Path, classes: int = 3, n: int = 90, side: int = 12) -> Path:
    for k in range(n):
        pixels = np.zeros((side, side), np.uint8)
        pixels[1 + k % 7 : 3 + k % 7, 2 : 3 + k % classes * 3] = 255
        place = folder / f"class{k % classes}" if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{k}.png")
    return folder


def photographs(folder: Path, n: int = 40, size=(12, 16)) -> Path:
    folder.mkdir()
    for k in range(n):
        pixels = np.random.default_rng(k).integers(40, 210, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    return folder


def chosen(folder: Path, **settings):
    run, data, lines = _own.choose_run(Data(str(folder), **settings), None)
    loop.check_pixels(run, data.levels)
    assert len(lines) == 4 and all(line and "\n" not in line for line in lines)
    return run, data, lines


def test_black_and_white_drawings_in_classes(tmp_path):
    run, data, lines = chosen(strokes(tmp_path / "letters"))
    assert isinstance(run.model, DrawConfig) and run.model.likelihood == "bernoulli"
    assert run.model.classes == 3 and run.data.binarise == "dynamic" and run.data.size == 0
    assert data.shape == (1, 12, 12) and data.classes == ("class0", "class1", "class2")
    assert lines[0].startswith(
        "letters: 90 images of 12x12, grey, 100 % of the pixels nearly black"
    )
    assert "3 classes (class0, class1, class2)" in lines[0]
    assert "conditioned on the class (sample --label class0)" in lines[1]


def test_grey_levels_and_colour(tmp_path):
    run, data, lines = chosen(photographs(tmp_path / "photos"))
    assert isinstance(run.model, ConvDrawConfig) and run.model.likelihood == "logistic"
    assert run.data.binarise == "no" and data.shape == (3, 12, 16) and run.model.classes == 0
    assert "40 images of 12x16, colour" in lines[0] and "no class sub-folders" in lines[0]


def test_few_images_a_class_are_no_condition(tmp_path):
    run, _, lines = chosen(strokes(tmp_path / "few", classes=8))
    assert run.model.classes == 0 and "fewer than 20 images for each of 8 classes" in lines[0]


def test_large_pictures_are_scaled_in_proportion(tmp_path):
    photographs(tmp_path / "large", 6, (60, 120))
    assert chosen(tmp_path / "large")[1].shape == (3, 16, 32)
    assert chosen(tmp_path / "large", size=(5, 7))[1].shape == (3, 5, 7)


@pytest.mark.parametrize(("side", "window"), [(28, 5), (60, 12)])
def test_windows_suit_the_size(tmp_path, side, window):
    run = chosen(strokes(tmp_path / "x", side=side))[0]
    assert (run.model.read, run.model.write) == (window, window)


def test_few_images_are_not_seen_too_often(tmp_path):
    few = chosen(strokes(tmp_path / "few"))[0].examples
    many = _own.strokes(Data("x"), 0, 28, 150 * 8_000).examples
    assert few == 20_000 and many == 1_000_000


def test_a_look_at_no_folder_is_the_recipe(capsys):
    assert recipes.get("images") == images.images()
    assert recipes.chooser("images") and recipes.chooser("mnist") is None
    assert "choose_run" not in recipes.names()


def train(folder, out, *words):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        short = ["--examples", 64, "--batch", 16, "--model.steps", 2, "--precision", "float32"]
        words = ["train", "images", "--data.name", folder, "--out", out, *short, *words]
        cli.main([str(word) for word in words])
    return checkpoint.load_model(Path(out))


def test_the_command(tmp_path, capsys):
    folder = strokes(tmp_path / "letters")
    model = train(folder, tmp_path / "run")
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said[:4]] == ["letters", "model", "pixels", "length"]
    assert model.run.model.steps == 2 and model.run.model.classes == 3
    train(folder, tmp_path / "run", "--resume")  # chooses the same again
    cli.main(
        [
            "sample",
            str(tmp_path / "run"),
            "-n",
            "2",
            "--label",
            "class2",
            "--out",
            str(tmp_path / "x.png"),
        ]
    )


def test_what_is_to_be_known_of_a_folder_is_said_once(tmp_path, capsys):
    folder = strokes(tmp_path / "letters")
    (folder / "notes.txt").write_text("scanned on Tuesday")
    train(folder, tmp_path / "run")
    assert capsys.readouterr().err.count("notes.txt") == 1


def test_options_win(tmp_path):
    folder = strokes(tmp_path / "letters")
    words = ["--model.classes", 0, "--model.read", 3, "--data.size", "8x10", "--lr", 0.01]
    run = train(folder, tmp_path / "a", *words).run
    assert (run.model.classes, run.model.read, run.data.size, run.lr) == (0, 3, (8, 10), 0.01)
    options = ["--data.options", "labels", "none", "grey", "false"]
    model = train(folder, tmp_path / "c", *options)
    assert model.run.data.options == {"labels": "none", "grey": "false"}
    assert model.run.model.classes == 0 and model.network.shape == (3, 12, 12)
    model = train(folder, tmp_path / "b", "--model.likelihood", "logistic", "--data.binarise", "no")
    assert model.run.model.likelihood == "logistic" and model.run.data.binarise == "no"


def test_help_and_mistakes(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "images", "--data.name", str(tmp_path), "--help"])
    assert not end.value.code
    capsys.readouterr()
    for words in (["--nosuch", "3"], ["--data.size", "abc"]):
        with pytest.raises(SystemExit) as end:
            cli.main(["train", "images", "--data.name", str(strokes(tmp_path / "x")), *words])
        assert end.value.code == 2
        assert (
            capsys.readouterr().err.splitlines()[-1].startswith("drawnet: drawnet train images: ")
        )
