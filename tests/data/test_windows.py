"""Training images larger than what the model sees: random windows in training, else the middle."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from drawnet import cli
from drawnet.data import Images
from drawnet.data.config import Data
from drawnet.data.pipeline import crop, mean_image
from drawnet.models import sequential
from drawnet.nn.noise import Noise
from drawnet.training import checkpoint, loop
from drawnet.training.state import Session
from reference import assert_resumes


def numbered(n, height, width, channels=2):
    """Images whose pixels are all different."""
    return torch.arange(n * channels * height * width).view(n, channels, height, width).float()


def test_a_window_is_a_part_of_its_own_image():
    x, where = numbered(500, 9, 7), torch.rand(500, 2)
    got = crop(x, (2, 5, 4), where)
    assert got.shape == (500, 2, 5, 4)
    corners = set()
    for image, part, (down, right) in zip(x, got, where.tolist(), strict=True):
        top, left = int(down * 5), int(right * 4)
        assert torch.equal(part, image[:, top : top + 5, left : left + 4])
        corners.add((top, left))
    assert len(corners) == 5 * 4, "every place there is"


def test_the_last_place_is_reached_and_not_passed():
    x = numbered(2, 64, 64)
    most = torch.tensor([[0.0, 1 - 2**-24], [1 - 2**-24, 0.0]])
    got = crop(x, (2, 54, 54), most)
    assert torch.equal(got[0], x[0, :, :54, 10:]) and torch.equal(got[1], x[1, :, 10:, :54])


def test_without_a_place_it_is_the_middle_and_the_whole_is_the_whole():
    x = numbered(3, 64, 9)
    assert torch.equal(crop(x, (2, 54, 9)), x[:, :, 5:59])
    assert crop(x, (2, 64, 9), torch.rand(3, 2)) is x


def test_two_processes_see_the_windows_of_one():
    x = numbered(6, 9, 9)
    whole = crop(x, (2, 4, 4), Noise(3, 8).uniform("window", 6, 2))
    halves = [Noise(3, 8, rank, 2).uniform("window", 3, 2) for rank in (0, 1)]
    parts = [crop(x[3 * k : 3 * k + 3], (2, 4, 4), halves[k]) for k in (0, 1)]
    assert torch.equal(torch.cat(parts), whole)


def test_the_mean_image():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9000, 2, 3, 4), np.uint8))
    assert torch.equal(mean_image(pixels), pixels.float().mean(0))


# ---- a whole run --------------------------------------------------------------------------------


@pytest.fixture
def larger(tiny_data):
    """The tiny data set with training images of 12 × 11 of random bits."""
    bits = np.random.default_rng(0).integers(0, 2, (60, 1, 12, 11), np.uint8)
    return replace(tiny_data, splits=tiny_data.splits | {"train": Images(bits)})


def test_a_set_may_have_larger_training_images_and_no_others(larger):
    assert larger.shape == (1, 8, 8)
    for split, shape in (("valid", (1, 12, 12)), ("test", (1, 9, 9)), ("train", (1, 7, 12))):
        other = Images(np.zeros((4, *shape), np.uint8))
        with pytest.raises(ValueError, match="the set is"):
            replace(larger, splits=larger.splits | {split: other})
    with pytest.raises(ValueError, match="the set is"):
        replace(larger, splits=larger.splits | {"train": Images(np.zeros((4, 3, 9, 9), np.uint8))})


def test_k_plus_k_steps_equal_2k(larger, tiny_run, tmp_path):
    assert_resumes(tiny_run, larger, tmp_path, 9)
    assert checkpoint.load_model(tmp_path / "whole").network.shape == (1, 8, 8)


@pytest.mark.parametrize("binarise", ["no", "static", "dynamic"])
def test_what_training_sees(larger, tiny_run, monkeypatch, binarise):
    """A window of each image; static binarisation is the same bits wherever the window is."""
    seen, real = [], sequential.bound
    monkeypatch.setattr(
        sequential, "bound", lambda m, x, *a, **k: seen.append(x) or real(m, x, *a, **k)
    )
    levels = {"no": 2}.get(binarise, 256)
    grey = larger.splits["train"].pixels * np.uint8({2: 1, 256: 128}[levels])
    run = replace(tiny_run, batch=60, data=replace(tiny_run.data, binarise=binarise))
    session = Session.fresh(run, torch.from_numpy(grey), levels, larger.shape)
    for _ in range(12):
        loop.train_step(session, torch.from_numpy(grey), levels)
    assert all(x.shape == (60, 1, 8, 8) for x in seen)
    found = {window.numpy().tobytes() for x in seen for window in x}
    assert len(found) > 500, "windows move"
    if binarise == "no":
        bits = torch.from_numpy(grey).float()
        places = {
            bits[n, :, top : top + 8, left : left + 8].numpy().tobytes()
            for n in range(60)
            for top in range(5)
            for left in range(4)
        }
        assert found <= places
    if binarise == "static":
        assert len(found) <= 60 * 5 * 4


@pytest.mark.filterwarnings("ignore:.*is not as it was when")
def test_evaluation_sees_the_middle(larger, tiny_run, tmp_path, monkeypatch, capsys):
    loop.train(replace(tiny_run, examples=16), larger, tmp_path / "run")
    monkeypatch.setattr(Data, "load", lambda self, data_dir: larger)
    cli.main(["evaluate", str(tmp_path / "run"), "--split", "train", "--json"])
    whole = capsys.readouterr().out
    middle = larger.splits["train"].pixels[:, :, 2:10, 1:9]
    cut = replace(larger, splits=larger.splits | {"train": Images(middle.copy())})
    monkeypatch.setattr(Data, "load", lambda self, data_dir: cut)
    cli.main(["evaluate", str(tmp_path / "run"), "--split", "train", "--json"])
    assert capsys.readouterr().out == whole
    sheet = tmp_path / "near.png"
    words = ["-n", "4", "--out", str(tmp_path / "s.png"), "--neighbours", str(sheet)]
    cli.main(["sample", str(tmp_path / "run"), *words])
    first = sheet.read_bytes()
    monkeypatch.setattr(Data, "load", lambda self, data_dir: larger)
    cli.main(["sample", str(tmp_path / "run"), *words])
    assert sheet.read_bytes() == first
