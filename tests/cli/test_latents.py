"""`encode`, `complete`, `morph` and `reconstruct`: pictures of any kind in, arrays and figures out."""

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
from drawnet.drawing import sample
from drawnet.models.draw import DrawConfig
from drawnet.training import checkpoint
from reference import refused

CLASSES = ("A", "B", "C")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model without classes, one of three, and pictures: two files, classes in folders, an array."""
    folder = tmp_path_factory.mktemp("made")
    for name, classes in (("plain", 0), ("named", 3)):
        config = DrawConfig(steps=3, units=8, latents=3, read=2, write=2, classes=classes)
        torch.manual_seed(0)
        network = models.build(config, (1, 28, 28))
        for p in network.parameters():  # lively: what it reads and is told shows
            p.data.normal_(0, 0.4)
        run = replace(make_run(), model=config, data=Data("digits"))
        known = {"data": asdict(Manifest("", classes=CLASSES))} if classes else {}
        header = {"examples": 8, **known}
        checkpoint.save_model(folder / f"{name}.safetensors", network, run, header)
    pixels = np.random.default_rng(0).integers(0, 2, (6, 28, 28), np.uint8) * 255
    for k, words in enumerate(["a.png", "b.png", "set/A/1.png", "set/A/2.png", "set/C/3.png"]):
        (folder / words).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[k]).save(folder / words)
    np.savez(folder / "six.npz", images=pixels, labels=np.arange(6) % 3)
    np.save(folder / "six.npy", pixels)
    return folder


@pytest.fixture(autouse=True)
def there(made, monkeypatch):
    monkeypatch.chdir(made)


def run(capsys, *words):
    cli.main([str(word) for word in words])
    return capsys.readouterr().out.strip()


def test_latents_decode_to_the_reconstruction_whatever_the_batch(capsys, tmp_path):
    for batch in (6, 4):
        out = tmp_path / f"{batch}.npz"
        words = ["encode", "plain.safetensors", "six.npy", "--batch", batch, "--out", out]
        assert run(capsys, *words) == str(out)
    a, b = (dict(np.load(tmp_path / f"{batch}.npz")) for batch in (6, 4))
    assert set(a) == {"mu", "log_sigma", "z", "names"} and a["names"][5] == "six.npy/5"
    for key in ("mu", "log_sigma", "z"):
        assert a[key].shape == (6, 3, 3)
        np.testing.assert_allclose(a[key], b[key], atol=1e-5)
    model = sample.load("plain.safetensors")
    x = torch.from_numpy(np.load("six.npy")[:, None] / 255).float()
    drawn = sample.redraw_trajectory(model, x).images
    again = model.decode(torch.from_numpy(a["z"]).transpose(0, 1))
    torch.testing.assert_close(again, drawn, atol=1e-5, rtol=0)
    assert np.abs(a["z"] - a["mu"]).mean() > 0.1 * np.exp(a["log_sigma"]).mean()


def test_folders_arrays_and_data_give_labels_and_names(capsys, tmp_path):
    out = tmp_path / "x.npz"
    run(capsys, "encode", "named.safetensors", "set", "--out", out)
    found = np.load(out)
    assert found["labels"].tolist() == [0, 0, 1] and found["classes"].tolist() == ["A", "C"]
    assert found["names"].tolist() == ["set/A/1.png", "set/A/2.png", "set/C/3.png"]
    chosen = tmp_path / "y.npz"  # the model's C is its third class
    run(capsys, "encode", "named.safetensors", "set", "--label", "A", "A", "C", "--out", chosen)
    np.testing.assert_allclose(found["mu"], np.load(chosen)["mu"], atol=1e-6)
    run(capsys, "encode", "named.safetensors", "set", "--label", "B", "--out", chosen)
    assert np.abs(found["mu"] - np.load(chosen)["mu"]).max() > 1e-3
    run(capsys, "encode", "named.safetensors", "six.npz", "--out", out)
    assert np.load(out)["labels"].tolist() == [0, 1, 2, 0, 1, 2]
    run(capsys, "encode", "plain.safetensors", "-n", 5, "--split", "valid", "--out", out)
    found = np.load(out)
    assert len(found["labels"]) == 5 and found["names"][1] == "digits/valid/100"


def test_completions_keep_what_is_given(capsys, tmp_path):
    words = ["complete", "plain.safetensors", "a.png", "b.png", "--rounds", 2, "--ways", 3]
    for hide, rows, columns in (
        (["left"], slice(28), slice(14)),
        (["bottom"], slice(14, 28), slice(28)),
        (["box", 3, 5, 4, 6], slice(5, 11), slice(3, 7)),
    ):
        run(capsys, *words, "--hide", *hide, "--out", tmp_path / "c.npz")
        found = np.load(tmp_path / "c.npz")
        known = np.ones((28, 28), bool)
        known[rows, columns] = False
        np.testing.assert_array_equal(found["known"], known)
        assert found["images"].shape == (2, 3, 1, 28, 28)
        for k, name in enumerate(("a.png", "b.png")):
            given = np.array(Image.open(name)) / 255
            filled = found["images"][k, :, 0]
            np.testing.assert_array_equal(filled[:, known], given[known][None].repeat(3, 0))
            assert not np.array_equal(filled[0], filled[1])


def test_a_mask_is_white_where_pictures_are_hidden(capsys, tmp_path):
    mask = Image.new("L", (56, 56), 0)
    mask.paste(255, (0, 0, 28, 56))
    mask.save(tmp_path / "mask.png")
    words = ["complete", "plain.safetensors", "a.png", "--rounds", 1, "--out"]
    run(capsys, *words, tmp_path / "m.npz", "--mask", tmp_path / "mask.png")
    run(capsys, *words, tmp_path / "h.npz", "--hide", "left")
    a, b = np.load(tmp_path / "m.npz"), np.load(tmp_path / "h.npz")
    np.testing.assert_array_equal(a["known"], b["known"])
    np.testing.assert_array_equal(a["images"], b["images"])


def test_completions_are_shown_saved_singly_and_animated(capsys, tmp_path):
    words = ["complete", "plain.safetensors", "a.png", "set", "--rounds", 2, "--ways", 3, "--out"]
    run(capsys, *words, tmp_path / "c.gif")
    with Image.open(tmp_path / "c.gif") as animation:
        assert animation.n_frames == 3
    run(capsys, *words, tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.height > 3 * 28 and picture.width > 5 * 28
    run(capsys, *words, f"{tmp_path}/single/")
    names = sorted(p.name for p in (tmp_path / "single").iterdir())
    assert (
        names[:4] == ["0000-a.png", "0001-a.png", "0002-a.png", "0003-1.png"] and len(names) == 12
    )


def test_a_conditional_model_chooses_the_labels_of_completions(capsys, tmp_path):
    words = ["complete", "named.safetensors", "a.png", "--rounds", 1, "--ways", 8, "--out"]
    run(capsys, *words, tmp_path / "any.npz")
    run(capsys, *words, tmp_path / "b.npz", "--label", "B")
    free, told = (np.load(tmp_path / f)["images"] for f in ("any.npz", "b.npz"))
    assert free.shape == told.shape == (1, 8, 1, 28, 28) and not np.array_equal(free, told)


def test_a_morph_begins_and_ends_with_the_reconstructions(capsys, tmp_path):
    words = ["morph", "plain.safetensors", "a.png", "b.png", "set", "--steps", 5, "--out"]
    run(capsys, *words, tmp_path / "m.npz")
    images = np.load(tmp_path / "m.npz")["images"]
    assert images.shape == (4, 5, 1, 28, 28)
    np.testing.assert_allclose(images[0, -1], images[1, 0], atol=1e-5)
    assert np.abs(images[0, 0] - images[0, -1]).max() > 1e-3
    model = sample.load("plain.safetensors")
    pair = torch.stack([torch.from_numpy(np.array(Image.open(f)) / 255).float()[None]
                        for f in ("a.png", "b.png")])  # fmt: skip
    np.testing.assert_allclose(images[0], model.interpolate(*pair, 5).numpy(), atol=1e-5)
    run(capsys, *words, tmp_path / "m.gif")
    with Image.open(tmp_path / "m.gif") as animation:
        assert 5 <= animation.n_frames <= 20  # pictures that are the same share a frame


def test_classes_change_into_each_other_by_name(capsys, tmp_path):
    words = ["morph", "named.safetensors", "--label", "A", "C", "B", "--steps", 4, "-n", 2, "--out"]
    run(capsys, *words, tmp_path / "m.npz")
    images = np.load(tmp_path / "m.npz")["images"]
    assert images.shape == (2, 8, 1, 28, 28)
    model = sample.load("named.safetensors")
    for place, label in ((0, 0), (3, 2), (4, 2), (7, 1)):
        expected = model.sample(2, labels=[label]).numpy()
        np.testing.assert_allclose(images[:, place], expected, atol=1e-5)
    run(capsys, *words, tmp_path / "m.gif")
    with Image.open(tmp_path / "m.gif") as animation:
        assert animation.n_frames > 4


def test_pictures_are_reconstructed_from_folders_arrays_and_data(capsys, tmp_path):
    for source in (["set"], ["six.npz"], ["-n", 3]):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.png"
        assert run(capsys, "reconstruct", "plain.safetensors", *source, "--out", out) == str(out)
        assert out.stat().st_size > 200


def test_pictures_get_sharper_by_the_byte(capsys, tmp_path):
    out = tmp_path / "p.webp"
    words = ("set", "--progressive", "--out", out)
    first, *steps, last = run(capsys, "reconstruct", "named.safetensors", *words).splitlines()
    assert "ideal bytes" in first and last == str(out)
    values = np.array([line.split() for line in steps], float)
    assert values[:, 0].tolist() == [0, 1, 2, 3] and values[0, 1] == 0
    assert (np.diff(values[:, 1]) > 0).all()
    with Image.open(out) as animation:
        assert animation.n_frames == 4
    words = ("-n", 21, "--progressive", "--out", tmp_path / "q.gif")
    assert "at most 20 pictures" in refused(capsys, "reconstruct", "plain.safetensors", *words)
    words = ("a.png", "--progressive", "--out", tmp_path / "q.png")
    assert "end in .gif, .webp" in refused(capsys, "reconstruct", "plain.safetensors", *words)
    assert not list(tmp_path.glob("q.*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["complete", "plain.safetensors", "a.png", "--hide", "middle"], "say left, right, top"),
        (["complete", "plain.safetensors", "a.png", "--hide", "box", "1", "2", "3"], "X Y W H"),
        (["complete", "plain.safetensors", "a.png", "--hide", "box", "28", "0", "4", "4"], "nothing"),
        (["complete", "plain.safetensors", "a.png", "--hide", "box", "0", "0", "28", "99"], "all of"),
        (["complete", "plain.safetensors", "a.png", "--hide", "left", "--mask", "b.png"], "one of them"),
        (["complete", "plain.safetensors", "a.png", "--ways", str(10**9)], "of memory"),
        (["encode", "named.safetensors", "a.png"], "give --label"),
        (["complete", "plain.safetensors", "a.png", "--label", "1"], "not conditional"),
        (["encode", "named.safetensors", "set", "--label", "A", "B"], "one for each image (3), not 2"),
        (["encode", "named.safetensors", "set", "--label", "D"], "no class is called 'D'"),
        (["encode", "plain.safetensors", "a.png", "--data.name", "digits"], "give one of them"),
        (["encode", "plain.safetensors", "--split", "tset"], "did you mean 'test'?"),
        (["encode", "plain.safetensors", "a.png", "--out", "x.png"], "should end in .npz"),
        (["morph", "plain.safetensors", "a.png"], "two pictures or more"),
        (["morph", "named.safetensors", "--label", "A"], "two classes or more"),
        (["morph", "plain.safetensors", "--label", "0", "1"], "not conditional"),
        (["morph", "named.safetensors", "--label", "0", "7"], "not one of the model's classes"),
        (["morph", "plain.safetensors", "a.png", "b.png", "--steps", "1"], "at least 2"),
        (["morph", "named.safetensors", "--label", "0", "1", "--steps", str(10**9)], "of memory"),
    ],
)  # fmt: skip
def test_what_has_no_sense_gets_one_line_and_leaves_nothing(capsys, words, said):
    before = sorted(p.name for p in Path().iterdir())
    assert said in refused(capsys, *words)
    assert sorted(p.name for p in Path().iterdir()) == before
