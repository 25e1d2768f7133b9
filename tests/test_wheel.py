"""The wheel holds what it needs, and works without the extras."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from drawnet import weights

ROOT = Path(__file__).parents[1]

WITHOUT_EXTRAS = """
import sys
sys.path.insert(0, {target!r})

EXTRAS = ("pyarrow", "scipy", "tensorboard", "starlette", "matplotlib", "onnx", "huggingface_hub")

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import drawnet
assert drawnet.__file__.startswith({target!r}), drawnet.__file__
from drawnet import cli, data
from drawnet.kernels import compiled
cli.main(["list"])
assert len(data.load("digits").splits["train"]) == 4000
assert len(compiled.SOURCES) > 4
assert all(getattr(drawnet, name) for name in drawnet.__all__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_its_data_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "data/digits.npz",
        "kernels/recurrent.c",
        "kernels/product.h",
        "py.typed",
        "models/draw.py",
        "recipes/mnist.py",
        "weights/README.md",
        *(
            f"demo/web/{path.name}"
            for path in (ROOT / "src" / "drawnet" / "demo" / "web").iterdir()
        ),
        *(f"weights/{path.name}" for path in weights.bundled().values()),
    ):
        assert f"drawnet/{wanted}" in names
    assert not [n for n in names if not n.startswith(("drawnet/", "drawnet-"))]


def test_the_wheel_works_without_extras(wheel, tmp_path):
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    code = WITHOUT_EXTRAS.format(target=str(target))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
