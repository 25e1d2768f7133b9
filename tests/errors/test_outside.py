"""Code outside drawnet: found by module, file or entry point, imported only where the user names it."""

import sys
from pathlib import Path

import pytest

from drawnet import data, models
from drawnet.errors import UserError
from drawnet.models.vae import VAEConfig

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_model.py"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The example's model, in a file with the name of one of ours, and one that can be imported."""
    monkeypatch.chdir(tmp_path)
    for name in ("vae", "own_tiny", "broken", "random"):
        text = "def (" if name == "broken" else EXAMPLE.read_text(encoding="utf-8")
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    yield tmp_path
    for name in ("vae", "own_tiny", "broken"):
        sys.modules.pop(name, None)


def test_a_file_of_the_name_of_ours_is_never_taken_for_ours(own):
    settings = models.use("vae.py:Tiny")
    assert settings.__module__ == "vae" and models.kind(settings()) == "vae:Tiny"
    assert models.use(str(own / "vae.py") + ":Tiny") is settings
    assert models.use("vae") is VAEConfig and models.config("vae") is VAEConfig
    with pytest.raises(UserError, match=r"vae.py: which model\? name its class: vae.py:Class"):
        models.use("vae.py")


def test_a_module_is_looked_for_in_the_working_folder_too(own):
    before = [*sys.path]
    assert models.kind(models.use("own_tiny:Tiny")()) == "own_tiny:Tiny"
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere.py:Tiny", "nowhere.py is not there"),
        ("nowhere:Tiny", "no module is called 'nowhere'"),
        (
            "own_tiny:Tinny",
            "no class or function of own_tiny is called 'Tinny'; did you mean 'Tiny'",
        ),
        ("own_tiny.py:State", "own_tiny.py:State is no model: derive it from drawnet.StepModel"),
        ("own_tiny:main", "is no model"),
        ("broken.py:Tiny", "broken.py cannot be imported: "),
        ("broken:Tiny", "broken cannot be imported: "),
        ("random.py:Tiny", "another module is called random: rename the file"),
        ("drow", "no model is called 'drow'; did you mean 'draw'"),
    ],
)
def test_what_is_no_model_is_said(own, name, why):
    with pytest.raises(UserError, match=why) as error:
        models.use(name)
    assert "\n" not in str(error.value)


def test_an_installed_package_declares_models_and_data(own, monkeypatch):
    """By entry points, as pip writes them beside a package."""
    (own / "random.py").unlink()
    info = own / "own_things-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: own-things\nVersion: 1\n", encoding="utf-8")
    entries = "[drawnet.models]\ntiny = own_tiny:Tiny\nvae = own_tiny:Tiny\n"
    entries += "[drawnet.data]\nspots = own_spots:spots\nmnist = own_spots:spots\n"
    (info / "entry_points.txt").write_text(entries, encoding="utf-8")
    spots = "import numpy as np\ndef spots():\n    return np.eye(36).reshape(36, 6, 6)\n"
    (own / "own_spots.py").write_text(spots, encoding="utf-8")
    monkeypatch.syspath_prepend(str(own))
    assert models.use("tiny").__module__ == "own_tiny" and models.use("vae") is VAEConfig
    sys.modules.pop("own_tiny")
    assert models.config("own_tiny:Tiny").__module__ == "own_tiny"  # a saved run's: it is installed
    assert data.load("spots").shape == (1, 6, 6)
    assert data.about("mnist").name == "mnist"
    with pytest.raises(UserError, match="did you mean 'spots'"):
        data.load("spotz")
    sys.modules.pop("own_spots")
