"""A model of a user's own file trains, is saved, and comes back as what it is."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from drawnet import models
from drawnet.errors import UserError
from drawnet.models.vae import VAE, VAEConfig
from drawnet.training import checkpoint, config, loop

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_model.py"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The example's model in a file that is called as one of ours."""
    path = tmp_path / "vae.py"
    path.write_text(EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("vae", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "vae", module)
    spec.loader.exec_module(module)
    return module


def test_it_trains_resumes_and_comes_back(own, tiny_run, tiny_data, tmp_path, monkeypatch):
    run = replace(tiny_run, recipe="mine", model=own.TinyConfig(steps=2, units=6, latents=3))
    loop.train(replace(run, examples=80, decay="none"), tiny_data, tmp_path / "run")
    loop.train(replace(run, decay="none"), tiny_data, tmp_path / "run", resume=True)
    saved = checkpoint.load_model(tmp_path / "run")
    assert saved.kind == "vae:Tiny" and type(saved.network) is own.Tiny
    assert saved.run.model == run.model
    monkeypatch.delitem(sys.modules, "vae")
    with pytest.raises(UserError, match="vae:Tiny, of a file outside drawnet: import vae before"):
        checkpoint.load_model(tmp_path / "run")


def test_names_outside_do_not_meet_names_inside(own, tiny_run):
    mine, ours = own.TinyConfig(), VAEConfig()
    assert (models.kind(mine), models.kind(ours)) == ("vae:Tiny", "vae")
    assert (models.of(mine), models.of(ours)) == (own.Tiny, VAE)
    assert (models.config("vae:Tiny"), models.config("vae")) == (own.TinyConfig, VAEConfig)
    for settings in (mine, ours):
        run = replace(tiny_run, model=settings)
        assert config.from_json(config.to_json(run)) == run


def test_a_configuration_without_a_model_is_named(own, tiny_run):
    del own.Tiny.Config
    with pytest.raises(UserError, match="no class in vae has Config = TinyConfig"):
        models.build(own.TinyConfig(), (1, 8, 8))


@pytest.mark.parametrize("kind", ["os:system", "nowhere:Model", "torch:nn", "vae:TinyConfig"])
def test_a_file_names_no_other_code(own, kind):
    """Nothing is imported for it, and nothing that is no model is called."""
    with pytest.raises(UserError, match="of a file outside drawnet"):
        models.config(kind)
    assert "nowhere" not in sys.modules


def test_it_draws_as_ours_do(own):
    torch.manual_seed(0)
    model = own.Tiny(own.TinyConfig(steps=2, units=6, latents=3), (1, 8, 8))
    from drawnet import sample

    assert sample(model, 3).shape == (3, 1, 8, 8)
