"""Training images that are made when asked for: new in every epoch, and nothing else changes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import classes_of
from drawnet import cli
from drawnet.data import Dataset, GeneratedImages, Images, pipeline
from drawnet.data.config import Data
from drawnet.models import sequential
from drawnet.training import distributed, loop
from drawnet.training.state import Session
from reference import assert_resumes

N = 60


def squares(numbers: np.ndarray) -> np.ndarray:
    """Binary squares, (B, 1, 8, 8): across from the place in the epoch, down from the epoch."""
    pixels = np.zeros((len(numbers), 1, 8, 8), np.uint8)
    for image, n in zip(pixels, numbers, strict=True):
        y, x = n // N % 6, n % N % 6
        image[0, y : y + 3, x : x + 3] = 1
    return pixels


def coded(numbers: np.ndarray) -> np.ndarray:
    """The number itself, in the digits to base 256 of the first pixels: (B, 1, 8, 8)."""
    pixels = np.zeros((len(numbers), 1, 8, 8), np.uint8)
    pixels[:, 0, 0] = numbers[:, None] // 256 ** np.arange(8) % 256
    return pixels


def made(make=squares, n=N, recipe="squares", sources=None) -> GeneratedImages:
    sources = np.arange(5, dtype=np.uint8) if sources is None else sources
    return GeneratedImages((n, 1, 8, 8), make, sources, recipe)


@pytest.fixture
def data(tiny_data) -> Dataset:
    """The tiny data, with training images that are made."""
    train = Images(made(), classes_of(squares(np.arange(N))))
    return replace(tiny_data, splits=tiny_data.splits | {"train": train})


@pytest.fixture
def watched(monkeypatch):
    """What the steps of training see."""
    seen, real = [], sequential.bound

    def bound(model, x, eps, y, **rest):
        seen.append((x, y))
        return real(model, x, eps, y, **rest)

    monkeypatch.setattr(sequential, "bound", bound)
    return seen


def numbers(x: torch.Tensor) -> list[int]:
    first = (255 * x[:, 0, 0]).round().long()
    return (first * 256 ** torch.arange(8)).sum(1).tolist()


def test_every_epoch_sees_every_image_anew(tiny_run, watched):
    """Batches of 8 of 60 images lie across the epochs' borders."""
    session, pixels = Session.fresh(tiny_run, made(coded), 256), made(coded)
    for _ in range(3 * N // 8 + 1):
        loop.train_step(session, pixels, 256)
    seen = [n for x, _ in watched for n in numbers(x)][: 3 * N]
    for epoch in range(3):
        part = seen[epoch * N : (epoch + 1) * N]
        assert sorted(part) == list(range(epoch * N, (epoch + 1) * N))
    fixed = torch.from_numpy(made(coded)[:])
    watched.clear()
    session = Session.fresh(tiny_run, fixed, 256)
    for _ in range(3 * N // 8 + 1):
        loop.train_step(session, fixed, 256)
    order = [n for x, _ in watched for n in numbers(x)][: 3 * N]
    assert order == [n % N for n in seen], "the order is that of an ordinary array"


def test_far_positions_and_labels(tiny_run, watched):
    run = replace(tiny_run, model=replace(tiny_run.model, classes=N))
    session, pixels = Session.fresh(run, made(coded), 256), made(coded)
    session.progress.examples_seen = 8 * 10**12
    loop.train_step(session, pixels, 256, torch.eye(N))
    ((x, y),) = watched
    epoch = {n // N for n in numbers(x)}
    assert epoch <= {8 * 10**12 // N, 8 * 10**12 // N + 1}
    assert y.argmax(1).tolist() == [n % N for n in numbers(x)]


def test_processes_share_the_images_of_a_batch(tiny_run, watched, monkeypatch):
    def seen(world, rank):
        watched.clear()
        session = Session.fresh(tiny_run, made(coded), 256)
        session.progress.examples_seen = N - 5
        monkeypatch.setattr(distributed, "world", lambda: world)
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "mean", lambda tensors: None)
        loop.train_step(session, made(coded), 256)
        return numbers(watched[0][0])

    whole = seen(1, 0)
    assert min(whole) < N <= max(whole) and seen(2, 0) + seen(2, 1) == whole


@pytest.mark.parametrize("binarise", ["no", "static", "dynamic"])
def test_a_run_cut_in_two_is_the_same_run(data, tiny_run, tmp_path, binarise):
    """10 and 10 steps are 20, across two epochs' borders, bit for bit."""
    run = replace(tiny_run, data=replace(tiny_run.data, binarise=binarise))
    assert_resumes(run, data, tmp_path, 10)


def test_static_binarisation_is_for_good_image_by_image(tiny_run, watched):
    """Grey images all alike: what is drawn is the noise, another for an image that is made anew."""
    run = replace(tiny_run, batch=N, data=replace(tiny_run.data, binarise="static"))
    grey = made(lambda n: np.full((len(n), 1, 8, 8), 128, np.uint8))
    for _ in range(2):
        session = Session.fresh(run, grey, 256)
        for _ in range(2):
            loop.train_step(session, grey, 256)
    first, second, again, _ = ([image.numpy().tobytes() for image in x] for x, _ in watched)
    assert first == again and not set(first) & set(second)


def test_the_mean_image_is_of_a_bounded_number():
    """Of an array it is what it was, of all images."""
    asked = []

    def make(n):
        asked.append(n)
        return squares(n)

    mean = pipeline.mean_image(made(make, n=10**9))
    assert np.concatenate(asked).tolist() == list(range(1 << 14))
    assert torch.equal(mean, torch.from_numpy(squares(np.arange(1 << 14))).double().mean(0).float())
    few = squares(np.arange(5000))
    expected = (torch.from_numpy(few).long().sum(0).float()) / 5000
    assert torch.equal(pipeline.mean_image(torch.from_numpy(few)), expected)
    assert torch.equal(pipeline.mean_image(made(n=5000)), expected)


def test_the_checksum_is_of_sources_and_recipe(data):
    def checksum(**changed):
        def refuse(n):
            raise AssertionError("nothing is made for a checksum")

        grey = Images(made(refuse, **changed))
        return replace(data, levels=256, splits=data.splits | {"train": grey}).checksum

    assert checksum() == checksum() == data.checksum
    others = [{"recipe": "circles"}, {"sources": np.ones(5, np.uint8)}, {"n": 61}]
    assert len({checksum(**o) for o in [{}, *others]}) == 4


def test_a_made_image_of_other_levels_is_refused(data):
    with pytest.raises(ValueError, match="train has pixels other than 0 and 1"):
        replace(data, splits=data.splits | {"train": Images(made(coded))})
    run = Images(made(), np.arange(N))[3:5]
    assert (run.pixels == squares(np.arange(3, 5))).all() and run.labels.tolist() == [3, 4]


@pytest.mark.filterwarnings("ignore:.*is not as it was when")
def test_commands_take_made_images(data, tiny_run, tmp_path, monkeypatch, capsys):
    """What they give is what the first epoch's images give as an array."""
    loop.train(replace(tiny_run, examples=16), data, tmp_path / "run")
    first = replace(data.splits["train"], pixels=squares(np.arange(N)))
    results = []
    for there in (data, replace(data, splits=data.splits | {"train": first})):
        monkeypatch.setattr(Data, "load", lambda self, data_dir, there=there: there)
        cli.main(["evaluate", str(tmp_path / "run"), "--split", "train", "--json"])
        sheet = tmp_path / "near.png"
        cli.main(["sample", str(tmp_path / "run"), "-n", "4", "--out", str(tmp_path / "s.png"),
                  "--neighbours", str(sheet)])  # fmt: skip
        results.append((capsys.readouterr().out, sheet.read_bytes()))
    assert results[0] == results[1]
    assert json.loads(results[0][0].rpartition("}")[0] + "}")["images"] == N
