"""What no machine holds is refused before it is built, with what it would need and of what."""

import time
from dataclasses import fields, replace

import pytest
import torch

from conftest import make_run, small
from drawnet import cli, models
from drawnet.errors import UserError
from drawnet.models.base import LossOptions
from drawnet.nn.noise import Noise
from drawnet.training import budget, checkpoint, loop

SHAPE = (1, 28, 28)
MUCH = 10**9
FREE = {"stride", "components", "draws", "chain", "kernel"}
"""Settings that cost no memory in training, at least not with the others' defaults."""


def integers():
    for kind in models.names():
        settings = small(kind)
        names = [f.name for f in fields(settings) if type(getattr(settings, f.name)) is int]
        yield from ((kind, name) for name in names)


@pytest.mark.parametrize(("kind", "name"), list(integers()))
def test_a_setting_of_a_thousand_million_is_refused_at_once(kind, name):
    start = time.process_time()
    try:
        settings = replace(small(kind), **{name: MUCH})
        run = replace(make_run(), model=settings)
        budget.check_training(run, SHAPE, run.batch)
    except UserError as why:
        assert f"--model.{name.replace('_', '-')} " in str(why) and "\n" not in str(why)
    else:
        assert name in FREE
    assert time.process_time() - start < 10


@pytest.mark.parametrize("batch", [MUCH, 10**30])
@pytest.mark.parametrize("kind", models.names())
def test_so_is_a_batch(kind, batch, tiny_data):
    run = replace(make_run(), model=small(kind), batch=batch)
    with pytest.raises(UserError, match=f"--batch {batch} needs about .* the activations of"):
        budget.check_training(run, SHAPE if kind != "chairs" else (4, 16, 16), batch)


def test_a_window_of_2000_pixels_does_not_pass(monkeypatch):
    monkeypatch.setattr(budget, "memory", lambda: 2**34)
    run = replace(make_run(), model=replace(make_run().model, read=2000, units=256))
    with pytest.raises(
        UserError, match=r"--model.read 2000 .*5 copies of the weights 1\d\d\.\d GiB"
    ):
        budget.check_training(run, SHAPE, 64)


def test_nothing_is_made_for_a_run_that_does_not_fit(tiny_run, tiny_data, tmp_path):
    with pytest.raises(UserError, match="choose smaller sizes"):
        loop.train(replace(tiny_run, batch=MUCH), tiny_data, tmp_path / "never")
    assert not (tmp_path / "never").exists()


class Kept(Noise):
    """A step's noise, which stays as long as it does."""

    def _rows(self, noise, batch, axis):
        self.held[noise.untyped_storage().data_ptr()] = noise.untyped_storage()
        return noise


@pytest.mark.parametrize("kind", models.names())
def test_activations_are_those_that_a_backward_pass_keeps(kind):
    """Counted where there are values, over the whole length; a long run is extrapolated."""
    shape, settings = (4, 16, 16) if kind == "chairs" else SHAPE, small(kind)
    if hasattr(settings, "steps"):
        settings = replace(settings, steps=7)
    model = models.build(settings, shape)
    x, noise = torch.rand(5, *shape).round(), Kept(0, 0)
    y = model.encode_labels(torch.zeros(5, dtype=torch.int64), model.classes)
    kept = Kept.held = {}

    def keep(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        losses = [
            model.loss(x, y, noise, LossOptions(group=group)) for group in model.parameter_groups()
        ]
    assert losses
    held = {p.data_ptr() for p in (*model.parameters(), *model.buffers())}
    counted = sum(s.nbytes() for at, s in kept.items() if at not in held)
    length = getattr(settings, "steps", 1)
    assert budget._extrapolated(settings, shape, 5, length) == pytest.approx(counted, rel=0.03)


def test_memory_is_that_of_the_control_group_if_it_has_less(tmp_path, monkeypatch):
    whole = budget.memory()
    for text, expected in (
        ("max", whole),
        ("1000000", 10**6),
        (str(2**63 - 1), whole),
        ("", whole),
    ):
        (tmp_path / "limit").write_text(text)
        monkeypatch.setattr(budget, "LIMITS", (tmp_path / "limit", tmp_path / "nowhere"))
        assert budget.memory() == expected


def test_a_file_of_endless_steps_is_not_drawn(tiny_run, tmp_path):
    model = models.build(tiny_run.model, (1, 8, 8))
    run = replace(tiny_run, model=replace(tiny_run.model, steps=MUCH))
    checkpoint.save_model(tmp_path / "model.safetensors", model, run, {})
    with pytest.raises(UserError, match=r"model\.safetensors needs about .* in 1000000001 steps"):
        checkpoint.load_model(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sample mnist -n 1000000000", "samples.png of 1000000000 images needs about"),
        ("evaluate mnist --importance-samples 1000000000", "--importance-samples is 1000000000; it"),
        ("evaluate mnist --importance-samples 0", "--importance-samples is 0; it"),
        ("evaluate mnist --images -1", "--images is -1; it"),
        ("compare mnist --importance-samples 1000000000", "--importance-samples is 1000000000; it"),
        ("train digits_quick --batch 1000000000", "--batch 1000000000 needs about"),
        ("train digits_quick --model.read 20000", "--model.read 20000"),
        ("ablate digits_quick --images 64 --model.units 100000000", "--model.units 100000000"),
        ("train digits_quick --data.size 1", "--data.size is 1; it must be at least 2"),
        ("train digits_quick --data.size 1x20", "--data.size is [1, 20]; it must be at least 2"),
    ],
)  # fmt: skip
def test_every_command_says_so_in_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(words.split())
    said = capsys.readouterr().err
    assert end.value.code == 2 and message in said and said.count("\n") == 1
    assert not [path for path in tmp_path.iterdir() if path.name != "runs"]


@pytest.mark.parametrize("kind", ["draw", "draw_variant", "patch_draw", "glimpse"])
def test_a_single_pixel_has_no_window(kind):
    with pytest.raises(UserError, match=r"--model\.read"):
        models.build(small(kind), (1, 1, 1))
