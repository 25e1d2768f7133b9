"""The examples: DRAW on one page agrees with the package, and every file of the folder runs."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import textbook
import torch
from PIL import Image
from torch import nn

from drawnet.models.draw import Draw, DrawConfig
from drawnet.models.sequential import bound, generate

EXAMPLES = Path(__file__).parents[1] / "examples"
MINIMAL = EXAMPLES / "draw_minimal.py"
SHORT = {
    "custom_model.py": ["--steps", "3"],
    "custom_read.py": ["--steps", "3"],
    "draw_minimal.py": ["--steps", "3"],
    "own_pictures.py": ["--examples", "96"],
}
"""What makes an example short; others are run without arguments."""
WINDOWS = {"both": (2, 3), "read only": (3, 0), "write only": (0, 4), "none": (0, 0)}


def load(path):
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, *arguments, folder):
    """What an example prints in a process of its own, in this folder."""
    command = [sys.executable, EXAMPLES / name, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- DRAW on one page ---------------------------------------------------------------------------


def pair(windows, shape):
    """The package's model and the page's with the same weights, in float64, with x and eps.

    The windows lie on the image or near it: far off it the package clamps centres and logarithms.
    """
    read, write = WINDOWS[windows]
    config = DrawConfig(steps=5, units=11, latents=4, read=read, write=write)
    torch.manual_seed(0)
    model = Draw(config, shape).double()
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    x = (torch.rand(6, *shape) < 0.4).double()
    return model, textbook.from_drawnet(model), x, torch.randn(5, 6, 4).double()


@pytest.mark.parametrize("shape", [(1, 9, 12), (3, 12, 8)])
@pytest.mark.parametrize("windows", WINDOWS)
def test_loss_and_gradients_are_the_packages(windows, shape):
    model, page, x, eps = pair(windows, shape)
    expected = bound(model, x, eps)
    expected.total.mean().backward()
    distortion, rate = page(x, eps)
    loss = (distortion + rate.sum(0)).mean()
    loss.backward()

    exact = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(distortion, expected.distortion, **exact)
    torch.testing.assert_close(rate, expected.rate, **exact)
    torch.testing.assert_close(loss, expected.total.mean(), **exact)
    own = {name: p.grad for name, p in model.named_parameters()}
    gradients = textbook.convert(own, page)
    assert gradients.keys() == dict(page.named_parameters()).keys()
    assert sum(g.norm() ** 2 for n, g in gradients.items()).item() == pytest.approx(
        sum(g.norm() ** 2 for g in own.values()).item()
    )  # none of the package's is left out
    for name, p in page.named_parameters():
        gradient = gradients[name.replace("bias_hh", "bias_ih")]  # nn.LSTMCell adds two biases
        assert gradient.norm() > 0, name
        assert (p.grad - gradient).norm() < 1e-9 * gradient.norm(), name


@pytest.mark.parametrize("windows", WINDOWS)
def test_samples_are_the_packages_and_never_see_the_encoder(windows):
    model, page, _, eps = pair(windows, (3, 12, 8))
    *_, state = generate(model, eps)
    for part in (page.encoder, page.q, page.read_window):
        for p in part.parameters() if part else ():
            nn.init.constant_(p, torch.nan)
    torch.testing.assert_close(page.sample(eps), model.likelihood(state).mean)


def test_the_page_is_one_page_of_its_own():
    text = MINIMAL.read_text()
    assert len(text.splitlines()) <= 200
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    assert imported <= {"argparse", "math", "time", "pathlib", "numpy", "torch", "PIL"}


def test_windows_start_inside_the_image_over_the_same_square():
    page = load(MINIMAL)
    torch.manual_seed(0)
    model = page.DRAW((1, 20, 28), T=4, N_read=3, N_write=6)
    model.initialise(torch.full((1, 20, 28), 0.2))
    torch.testing.assert_close(torch.sigmoid(model.c0), torch.full((1, 20, 28), 0.2))
    for window, n in ((model.read_window, 3), (model.write_window, 6)):
        _, _, _, log_delta, _ = window.bias.tolist()
        assert 27 / (n - 1) * torch.tensor(log_delta).exp() * n == pytest.approx(0.75 * 27)
    assert torch.equal(model.read_window.weight, model.write_window.weight)


def test_the_page_is_interrupted_and_still_draws(tmp_path, monkeypatch, capsys):
    page = load(MINIMAL)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "train", interrupted)
    monkeypatch.setattr(sys, "argv", ["draw_minimal.py", "--out", str(tmp_path / "a" / "b.png")])
    page.main()
    assert re.search(r"held-out images: [\d.]+ nats", capsys.readouterr().out)
    with Image.open(tmp_path / "a" / "b.png") as grid:
        assert grid.size == (464, 464)


def test_the_page_takes_other_images(tmp_path, monkeypatch, capsys):
    page = load(MINIMAL)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 10), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", pixels=pixels)
    arguments = ["--steps", "1", "--data", "images.npz", "--out", "grid.png"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["draw_minimal.py", *arguments])
    page.main()
    with Image.open(tmp_path / "grid.png") as grid:
        assert (grid.size, grid.mode) == ((8 * 22, 8 * 18), "RGB")


# ---- all files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_runs(name, tmp_path):
    printed = run(name, *SHORT.get(name, []), folder=tmp_path)
    nats = [float(number) for number in re.findall(r"([\d.]+) nats", printed)]
    assert nats and all(0 < number < 10_000 for number in nats), printed
    if "--out" in (EXAMPLES / name).read_text():
        (path,) = (tmp_path / "out").glob("*.png")
        with Image.open(path) as grid:
            low, high = grid.convert("L").getextrema()
        assert low < high


def test_a_reader_of_ones_own_is_what_reads():
    """The same weights give another bound, whose gradient reaches every parameter."""
    example = load(EXAMPLES / "custom_read.py")
    config = DrawConfig(steps=3, units=16, latents=4, read=3, write=3)
    x, eps, bounds = (torch.rand(4, 1, 12, 10) < 0.4).float(), torch.randn(3, 4, 4), []
    for kind in (Draw, example.BlurredDraw):
        torch.manual_seed(0)
        model = kind(config, (1, 12, 10))
        bounds.append(bound(model, x, eps).total)
    bounds[1].mean().backward()
    assert not torch.allclose(*bounds, rtol=1e-4)
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_own_pictures_are_read_from_a_folder_that_is_given(tmp_path):
    load(EXAMPLES / "own_pictures.py").make_pictures(tmp_path / "mine", 20)
    arguments = ["--pictures", "mine", "--examples", "64"]
    assert "nats" in run("own_pictures.py", *arguments, folder=tmp_path)
    assert len(list((tmp_path / "mine").iterdir())) == 20
