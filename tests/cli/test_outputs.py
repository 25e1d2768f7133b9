"""Outputs of `sample`: single files, arrays and grids, batch by batch in the same memory."""

import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import make_run
from drawnet import cli, models
from drawnet.data.config import Data
from drawnet.data.manifest import Manifest
from drawnet.drawing import outputs
from drawnet.drawing.figures import Trajectory, grid
from drawnet.errors import UserError
from drawnet.models.draw import DrawConfig
from drawnet.training import checkpoint
from reference import refused

CLASSES = ("A", "b/c", "ü x")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model without classes, and one of three, with names that are odd for files."""
    folder = tmp_path_factory.mktemp("models")
    for name, classes in (("plain", 0), ("named", 3)):
        config = DrawConfig(steps=2, units=8, latents=3, read=2, write=2, classes=classes)
        torch.manual_seed(0)
        network = models.build(config, (1, 6, 5))
        run = replace(make_run(), model=config, data=Data("digits"))
        manifest = Manifest("", classes=CLASSES if classes else ())
        path = folder / f"{name}.safetensors"
        header = {"examples": 8, "data": asdict(manifest)}
        checkpoint.save_model(path, network, run, header)
    return folder


def sample(model, out, *words):
    cli.main(["sample", str(model), "--out", str(out), *map(str, words)])


def test_a_slash_or_a_folder_that_is_there_means_single_files(made, tmp_path, capsys):
    sample(made / "named.safetensors", f"{tmp_path}/new/", "-n", 5, "--batch", 2)
    names = ["0000-A.png", "0001-b_c.png", "0002-ü_x.png", "0003-A.png", "0004-b_c.png"]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == names
    assert capsys.readouterr().out == f"{tmp_path}/new/\n"
    (tmp_path / "there").mkdir()
    sample(made / "named.safetensors", tmp_path / "there", "-n", 2, "--label", "ü x", "A")
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["0000-ü_x.png", "0001-A.png"]
    sample(made / "plain.safetensors", f"{tmp_path}/plain/", "-n", 1)
    with Image.open(tmp_path / "plain" / "0000.png") as picture:
        assert (picture.size, picture.mode) == ((5, 6), "L")


def test_files_arrays_and_grids_hold_the_same_samples_whatever_the_batch(made, tmp_path):
    run = made / "named.safetensors"
    sample(run, tmp_path / "a.npz", "-n", 7, "--batch", 7, "--frames")
    sample(run, tmp_path / "b.npz", "-n", 7, "--batch", 2)
    sample(run, tmp_path / "c.npy", "-n", 7, "--batch", 3)
    sample(run, f"{tmp_path}/d/", "-n", 7, "--batch", 3)
    sample(run, tmp_path / "e.png", "-n", 7, "--batch", 3)
    a, b, images = (np.load(tmp_path / name) for name in ("a.npz", "b.npz", "c.npy"))
    assert set(b) == {"images", "labels", "classes"}
    assert set(a) == set(b) | {"frames", "write"}
    assert b["labels"].tolist() == [0, 1, 2, 0, 1, 2, 0] and tuple(b["classes"]) == CLASSES
    assert a["frames"].shape == (7, 3, 1, 6, 5) and a["write"].shape == (7, 2, 4)
    np.testing.assert_array_equal(a["frames"][:, -1], a["images"])
    for other in (b["images"], images):
        assert other.shape == (7, 1, 6, 5) and other.dtype == np.float32
        np.testing.assert_allclose(a["images"], other, atol=1e-6)
    for k, path in enumerate(sorted((tmp_path / "d").iterdir())):
        np.testing.assert_allclose(np.array(Image.open(path)) / 255, images[k, 0], atol=1 / 255)
    whole = np.array(Image.open(tmp_path / "e.png"), float)
    assert np.abs(whole - np.array(grid(images), float)).max() <= 1


def test_what_was_drawn_before_is_not_mixed_with_other_samples(made, tmp_path, capsys):
    run = made / "plain.safetensors"
    sample(run, f"{tmp_path}/f/", "-n", 3)
    before = (tmp_path / "f" / "0001.png").read_bytes()
    sample(run, f"{tmp_path}/f/", "-n", 3, "--seed", 1)
    assert (tmp_path / "f" / "0001.png").read_bytes() != before
    said = refused(capsys, "sample", run, "--out", f"{tmp_path}/f/", "-n", 2)
    assert "1 other numbered pictures (0002.png)" in said
    assert len(list((tmp_path / "f").iterdir())) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--out", "x"],
            "should end in .png, .webp, .jpg, .gif, .npz, .npy, .svg, or in / for a folder",
        ),
        (["--out", ""], "no name"),
        (["--out", "file/"], "cannot be a folder"),
        (["--out", "x.png", "--frames"], "--frames is for an .npz file"),
        (["--out", "x/", "--frames"], "--frames is for an .npz file"),
        (["--out", "new/", "-n", 10**30], "its disk has"),
        (["--out", "x.npz", "-n", 10**30], "its disk has"),
        (["--out", "x.png", "-n", 10**12], "of memory"),
        (["--out", "x.jpg", "-n", 10**8], "cannot hold 100000000 images"),
        (["--out", "x.png", "-n", 10**9, "--neighbours", "y.png"], "of memory"),
    ],
)
def test_what_cannot_be_held_is_refused_before_work(
    made, tmp_path, capsys, monkeypatch, words, said
):
    def work(*_, **__):
        raise AssertionError("work was done")

    monkeypatch.setattr("drawnet.drawing.sample.sampling", work)
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    assert said in refused(capsys, "sample", made / "plain.safetensors", *words)
    assert os.listdir() == ["file"]  # noqa: PTH208


def test_a_full_disk_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    class Full:
        def write(self, _):
            raise OSError(28, "No space left on device")

    arrays = outputs.Arrays(tmp_path / "x.npz", 2, 4)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(UserError, match=r"x\.npz could not be written: No space left"):
        arrays.put(a=np.zeros(1))
    assert not list(tmp_path.iterdir())


def test_only_what_is_shown_is_kept():
    part = Trajectory(torch.rand(4, 3, 1, 2, 2), {"write": torch.rand(3, 3, 4)})
    got = []
    first = outputs.Whole(got.append, first=4)
    final = outputs.Whole(got.append, frames=False)
    outputs.fill([first, final], iter([part, part]))
    assert got[0].frames.shape == (4, 4, 1, 2, 2) and got[0].windows["write"].shape == (3, 4, 4)
    assert got[1].frames.shape == (1, 6, 1, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("out", ["f/", "x.npz", "x.png"])
def test_memory_does_not_grow_with_the_number_of_samples(made, tmp_path, out):
    code = "import resource, sys; from drawnet import cli; cli.main(sys.argv[1:]);"
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"

    def peak(n):
        words = ["sample", str(made / "plain.safetensors"), "-n", str(n), "--out", f"{n}{out}"]
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, cwd=tmp_path, check=True
        )
        return int(done.stdout.split()[-1]) / 1024

    assert peak(5000) < peak(500) + 20  # MB
