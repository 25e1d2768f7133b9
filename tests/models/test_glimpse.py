"""The reader alone: its recurrence by the book, its measures, its first look, and that it learns."""

import math
from dataclasses import replace

import pytest
import torch

import oracle
from conftest import small
from drawnet import models
from drawnet.cli import main
from drawnet.data.pipeline import View
from drawnet.drawing import sample
from drawnet.errors import UserError
from drawnet.evaluation.likelihood import Measure, measure, summary
from drawnet.models.base import LossOptions
from drawnet.models.convnet import ConvNetConfig
from drawnet.models.glimpse import GlimpseConfig
from drawnet.nn import attention
from drawnet.training import checkpoint, loop

SHAPE = (1, 8, 8)


@pytest.fixture
def reader():
    torch.manual_seed(0)
    network = models.build(GlimpseConfig(glimpses=3, units=12, read=3, classes=3), SHAPE)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return network


@torch.no_grad()
def test_every_glimpse_is_the_papers(reader):
    """r_t = read(x, h_t-1), h_t = LSTM(r_t, h_t-1), the class after the last: in slow float64."""
    x = torch.rand(2, *SHAPE, dtype=torch.float64)
    network = reader.double()
    lstm = torch.nn.LSTMCell(9, 12).double()
    w = network.encoder.weight
    lstm.load_state_dict(
        {
            "weight_ih": w[:, :9], "weight_hh": w[:, 9:],
            "bias_ih": network.encoder.bias, "bias_hh": torch.zeros(48),
        }
    )  # fmt: skip
    h, s = (p.detach().expand(2, 12) for p in (network.h, network.s))
    for state in network.states(x):
        next_read = network.next_read.weight @ h.T + network.next_read.bias[:, None]
        torch.testing.assert_close(state.read, next_read.T)
        r = torch.stack(
            [
                torch.tensor(oracle.read(*pair, 3))
                for pair in zip(x.numpy(), next_read.T.numpy(), strict=True)
            ]
        )
        h, s = lstm(r.flatten(1), (h, s))
        torch.testing.assert_close(state.h, h)
    logits = (network.out.weight @ h.T + network.out.bias[:, None]).T
    torch.testing.assert_close(network.logits(x), logits)
    torch.testing.assert_close(network.classify(x), logits.softmax(1))


def test_the_measures_are_error_and_cross_entropy(reader):
    x, y = torch.rand(5, *SHAPE), torch.eye(3)[torch.tensor([0, 1, 2, 0, 1])]
    o = reader.loss(x, y, None, LossOptions())
    p = reader.classify(x)
    torch.testing.assert_close(o.loss, -(p * y).sum(1).log())
    assert o.metrics["error"].tolist() == [
        float(a != b) for a, b in zip(p.argmax(1), y.argmax(1), strict=True)
    ]
    assert reader.selection_metric in o.metrics


def test_the_first_look_takes_in_the_image():
    network = models.build(GlimpseConfig(), (1, 100, 100))
    first = next(network.states(torch.zeros(1, 1, 100, 100)))
    w = attention.window(first.read, 12, 100, 100)
    assert (w.g_x.item(), w.g_y.item()) == pytest.approx((50.5, 50.5))
    assert w.delta.item() == pytest.approx(9) and w.sigma2.sqrt().item() == pytest.approx(4.05)


def test_one_image_moves_a_window_no_further_than_its_limit(reader):
    """Per image, whatever the batch; gradients that are short enough stay as they are."""
    x, y = torch.rand(6, *SHAPE), torch.eye(3)[torch.tensor([0, 1, 2, 0, 1, 2])]

    def gradients(limit, x, y):
        reader.config = replace(reader.config, glimpses=1, window_clip=limit)
        looks = reader.next_read.register_forward_hook(lambda *seen: seen[2].retain_grad())
        state = reader.start(len(x))
        looks.remove()
        loss = -(reader.out(reader.glimpse(x, state).h).log_softmax(1) * y).sum(1)
        loss.mean().backward()
        return state.next_read.grad * len(x)

    free = gradients(0.0, x, y)
    limit = free.norm(dim=1).median().item()
    held = gradients(limit, x, y)
    short = free.norm(dim=1) <= limit
    assert 0 < short.sum() < 6
    torch.testing.assert_close(held[short], free[short])
    torch.testing.assert_close(held.norm(dim=1)[~short], torch.full(((~short).sum(),), limit))
    torch.testing.assert_close(
        held / held.norm(dim=1, keepdim=True), free / free.norm(dim=1, keepdim=True)
    )
    torch.testing.assert_close(gradients(limit, x[:2], y[:2]), held[:2])


@pytest.mark.parametrize("kind", ["glimpse", "convnet"])
def test_it_learns(kind, tiny_run, tiny_data, tmp_path):
    model = small(kind, classes=3)
    run = replace(tiny_run, model=model, examples=4800, lr=3e-3, evaluate_every=1600)
    loop.train(run, tiny_data, tmp_path)
    measured = measure(checkpoint.load_model(tmp_path).network, View(tiny_data, "test"))
    assert measured["error"].mean() <= 1 / 11
    found = summary({"error": torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64)})
    assert found["error"].mean == 0.25
    assert found["error"].stderr == pytest.approx(0.5 / math.sqrt(4))
    assert summary({"error": torch.ones(1)})["error"] == Measure(1.0, None)


def test_a_trajectory_shows_where_it_looks(reader):
    x = torch.rand(4, *SHAPE)
    trajectory = sample.glimpse_trajectory(reader, x)
    assert trajectory.frames.shape == (4, 4, *SHAPE) and torch.equal(trajectory.images, x)
    raw = torch.stack([state.read for state in reader.states(x)])
    w = attention.window(raw[1], 3, 8, 8)
    torch.testing.assert_close(trajectory.windows["read"][1, :, 0], w.g_x)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (GlimpseConfig, {"read": 1}, "read"),
        (GlimpseConfig, {"glimpses": 0}, "glimpses"),
        (GlimpseConfig, {"window_clip": -1.0}, "window-clip"),
        (GlimpseConfig, {"classes": 1}, "classes"),
        (ConvNetConfig, {"stride": 0}, "stride"),
        (ConvNetConfig, {"classes": 0}, "classes"),
    ],
)
def test_senseless_settings(config, changes, message):
    with pytest.raises(UserError, match=message):
        config(**changes)


# ---- the command line ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A reader and a convolutional classifier of the embedded digits, after a few steps."""
    root = tmp_path_factory.mktemp("classifiers")
    for recipe in ("cluttered_4", "cluttered_conv"):
        words = ["train", recipe, "--data.name", "digits", "--examples", "320", "--batch", "32"]
        main([*words, "--validation-images", "50", "--out", str(root / recipe)])
    return root


def test_evaluate_reports_the_error(runs, capsys):
    main(["evaluate", str(runs / "cluttered_4"), "--images", "50"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "digits, test: 50 images"
    assert any(line.startswith("error ") and "±" in line for line in lines)
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(runs / "cluttered_4"), "--importance-samples", "5"])
    assert "has no bound" in capsys.readouterr().err


def test_classify_names_and_animates(runs, tmp_path, capsys):
    trajectory = tmp_path / "look.gif"
    main(["classify", str(runs / "cluttered_4"), "-n", "4", "--out", str(trajectory)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[0].startswith("test image 0 (") and lines[0].endswith(" %)")
    assert trajectory.stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "cluttered_4"], "cannot generate images (glimpse)"),
        (["reconstruct", "cluttered_4"], "cannot reconstruct images (glimpse)"),
        (["classify", "cluttered_conv", "--out", "a.gif"], "no read window"),
        (["classify", "cluttered_4", "--out", "a.png"], "should end in"),
        (["classify", "cluttered_4", "nowhere.png"], "nowhere.png"),
    ],
)
def test_bad_input_gets_one_line(runs, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(runs)
    with pytest.raises(SystemExit, match="2"):
        main(words)
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert sorted(p.name for p in runs.iterdir()) == ["cluttered_4", "cluttered_conv"]
