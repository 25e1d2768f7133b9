"""The file, and the commands that write and read it."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import blobs
from drawnet import models
from drawnet.compression import container, files
from drawnet.data.config import Data
from drawnet.errors import UserError
from drawnet.models.draw import DrawConfig
from drawnet.training import checkpoint
from drawnet.training.config import Run
from reference import drawnet, refused


def saved(path, seed=0, **settings):
    """A model's file."""
    torch.manual_seed(seed)
    sizes = {"steps": 3, "units": 12, "latents": 4, "read": 2, "write": 3}
    run = Run("tiny", DrawConfig(**sizes | settings), Data("blobs"))
    checkpoint.save_model(path, models.build(run.model, (1, 8, 8)), run, {})
    return path


@pytest.fixture(scope="module", name="model")
def model_file(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="module", name="made")
def compressed(model, tmp_path_factory):
    """A file of 60 images, most of them coded by the model."""
    path = tmp_path_factory.mktemp("made") / "made.draw"
    found = files.compress(files.load(model), blobs(60, 7))
    assert found.packed < 30
    path.write_bytes(found.data)
    return path


def pictures(folder, pixels):
    folder.mkdir()
    for k, image in enumerate(pixels):
        Image.fromarray(image[0] * 255).save(folder / f"{k:03}.png")
    return folder


def test_pictures_come_back(model, tmp_path, capsys):
    pixels = blobs(40, 7)
    scans = pictures(tmp_path / "scans", pixels)
    file, back = tmp_path / "scans.draw", tmp_path / "back"
    status, out, _ = drawnet(capsys, "compress", model, *sorted(scans.iterdir()), "-o", file)
    assert status == 0 and "40 images" in out and f"{file.stat().st_size:,} bytes" in out
    assert drawnet(capsys, "decompress", file, "-o", back, "--run", model)[0] == 0
    assert sorted(p.name for p in back.iterdir()) == [f"{k:05}.png" for k in range(40)]
    for before, after in zip(sorted(scans.iterdir()), sorted(back.iterdir()), strict=True):
        assert (np.asarray(Image.open(before)) == np.asarray(Image.open(after))).all()


def test_negatives_come_back_as_they_were(model, tmp_path, capsys):
    scans = pictures(tmp_path / "scans", 1 - blobs(40, 7))
    file, back = tmp_path / "scans.draw", tmp_path / "back.npz"
    drawnet(capsys, "compress", model, *sorted(scans.iterdir()), "-o", file, "--invert")
    drawnet(capsys, "decompress", file, "-o", back, "--run", model)
    assert (np.load(back)["images"] == 1 - blobs(40, 7)).all()


def test_labels_come_back(tmp_path, capsys):
    model = saved(tmp_path / "m.safetensors", classes=3)
    np.savez(tmp_path / "d.npz", test_images=blobs(40, 3) * 255, train_images=blobs(40, 4) * 255,
             val_images=blobs(40, 5) * 255, test_labels=np.arange(40) % 3,
             train_labels=np.arange(40) % 3, val_labels=np.arange(40) % 3)  # fmt: skip
    file, back = tmp_path / "d.draw", tmp_path / "back"
    assert drawnet(capsys, "compress", model, tmp_path / "d.npz", "-o", file)[0] == 0
    assert drawnet(capsys, "decompress", file, "-o", back, "--run", model)[0] == 0
    assert json.loads((back / "labels.json").read_text()) == (np.arange(40) % 3).tolist()
    assert (np.asarray(Image.open(back / "00007.png")) == blobs(40, 3)[7, 0] * 255).all()


def test_another_process_with_more_threads_reads_the_same(model, made, tmp_path):
    back = tmp_path / "back.npz"
    command = [sys.executable, "-m", "drawnet", "decompress", made, "-o", back, "--run", model]
    source = os.pathsep.join(sys.path)
    environment = os.environ | {"OMP_NUM_THREADS": "3", "PYTHONPATH": source}
    subprocess.run(command, check=True, env=environment)
    assert (np.load(back)["images"] == blobs(60, 7)).all()


def test_a_damaged_file_is_one_line(model, made, tmp_path):
    whole, bad = made.read_bytes(), tmp_path / "bad.draw"
    rng = np.random.default_rng(0)
    for place in rng.choice(len(whole), 60, replace=False):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.integers(8)
        bad.write_bytes(flipped)
        with pytest.raises(UserError, match=r"bad\.draw"):
            files.decompress(bad, model)
    for end in (0, 1, 7, 8, 12, 13, 20, 100, len(whole) - 1):
        bad.write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"bad\.draw"):
            files.decompress(bad, model)


def resealed(made, change, content=None):
    """The file with another header or content, under a check that fits."""
    header, words = container.read(made)
    text = json.dumps({**header.__dict__, **change}).encode()
    body = container.PREFIX.pack(container.MAGIC, container.VERSION, len(text)) + text
    body += words if content is None else content
    return body + hashlib.sha256(body).digest()[: container.CHECK]


@pytest.mark.parametrize(
    "change",
    [
        {"images": 61}, {"images": -1}, {"images": "60"}, {"bins": 3}, {"bins": 1 << 20},
        {"batches": [[1, 10**9]], "images": 10**9, "packed": 0}, {"batches": [[5000, 1]]},
        {"used": []}, {"used": [0, 0]}, {"used": [99]}, {"shape": [1, 8, 9]}, {"levels": 3},
        {"levels": 256}, {"probe": "0"}, {"identity": "0"}, {"more": 1}, {"packed": 60, "batches": []},
    ],
)  # fmt: skip
def test_a_header_that_lies_is_one_line(change, model, made, tmp_path):
    bad = tmp_path / "bad.draw"
    bad.write_bytes(resealed(made, change))
    with pytest.raises(UserError, match=r"bad\.draw"):
        files.decompress(bad, model)


def test_foreign_content_is_one_line(model, made, tmp_path):
    bad = tmp_path / "bad.draw"
    for content in (b"", b"abc", b"abcd", bytes(400), np.random.default_rng(0).bytes(4000)):
        bad.write_bytes(resealed(made, {}, content))
        with pytest.raises(UserError, match=r"bad\.draw"):
            files.decompress(bad, model)


def test_another_model_is_refused(made, tmp_path):
    with pytest.raises(UserError, match="another model"):
        files.decompress(made, saved(tmp_path / "other.safetensors", seed=1))
    with pytest.raises(UserError, match="another model"):
        files.decompress(made, saved(tmp_path / "wider.safetensors", units=13))
    with pytest.raises(UserError, match="--run"):
        files.decompress(made)


def test_a_machine_with_other_numbers_is_refused(model, made, monkeypatch):
    from drawnet.compression import exact

    monkeypatch.setattr(exact, "TAYLOR", exact.TAYLOR[1:])  # e^x to 5e-9 instead of 2e-10
    with pytest.raises(UserError, match="other numbers"):
        files.decompress(made, model)


def test_what_would_not_come_back_is_refused(model, tmp_path, capsys):
    path, out = tmp_path / "a.png", tmp_path / "a.draw"
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    colour = np.stack([grey, grey, 255 - grey], -1)
    cases = {
        "grey levels": Image.fromarray(grey),
        "colours": Image.fromarray(colour),
        "8x8": Image.new("L", (9, 8)),
        "transparent": Image.new("LA", (8, 8)),
    }
    for words, picture in cases.items():
        picture.save(path)
        assert words in refused(capsys, "compress", model, path, "-o", out)
    Image.fromarray(grey).save(path)
    assert drawnet(capsys, "compress", model, path, "-o", out, "--binarise")[0] == 0
    assert "name the images" in refused(capsys, "compress", model)
    assert "is not there" in refused(capsys, "compress", model, tmp_path / "none.png")
    Image.new("L", (8, 8)).save(path)
    assert "leave out the labels" in refused(
        capsys, "compress", model, path, "--label", "1", "-o", out
    )


def test_models_without_a_likelihood_are_refused(tmp_path):
    with pytest.raises(UserError, match="no likelihood"):
        files.load(saved(tmp_path / "m.safetensors", likelihood="cross_entropy"))
    with pytest.raises(UserError, match="cannot code images"):
        files.load(_classifier(tmp_path / "c.safetensors"))


def _classifier(path):
    run = Run("tiny", models.config("convnet")(), Data("blobs"))
    checkpoint.save_model(path, models.build(run.model, (1, 28, 28)), run, {})
    return path


def test_a_folder_that_is_there_is_kept(model, made, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    line = refused(capsys, "decompress", made, "-o", tmp_path / "full", "--run", model)
    assert "is there already" in line and (tmp_path / "full" / "mine.txt").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "images"), [("mnist", 100), ("omniglot", 50), ("cifar10_conv", 8)]
)
def test_bundled_models_give_real_images_back(name, images, real_data, tmp_path):
    run = checkpoint.load_model(Path(name)).run
    pixels = run.data.load(real_data).splits["test"].pixels[:images]
    made = files.compress(files.load(Path(name)), pixels)
    file, back = tmp_path / "a.draw", tmp_path / "back.npz"
    file.write_bytes(made.data)
    command = [sys.executable, "-m", "drawnet", "decompress", file, "-o", back]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, check=True, env=environment)
    assert (np.load(back)["images"] == pixels).all()


def test_the_page_has_the_figures_of_the_record():
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "compression.md").read_text(encoding="utf-8")
    for record in json.loads((docs / "runs" / "compression.json").read_text()):
        ours = record["ours"]
        for size in (ours["bytes"], *record["others"].values()):
            assert f"{size:,}" in page
        assert f"{record['bound_nats']:.2f}" in page and f"{ours['net_nats']:.2f}" in page
