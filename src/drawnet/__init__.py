"""drawnet: DRAW (Gregor et al. 2015, arXiv 1502.04623) and its family.

from drawnet import load, sample
model = load("runs/mnist")
images = sample(model, n=64, seed=0)        # (64, 1, 28, 28), pixel means
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Bernoulli": "probability",
    "Draw": "models.draw",
    "DrawConfig": "models.draw",
    "Gaussian": "probability",
    "StepModel": "step",
    "bound": "step",
    "evaluate": "evaluate",
    "generate": "step",
    "load": "drawing",
    "reconstruct": "step",
    "sample": "drawing",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that the command line starts without torch."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'drawnet' has no attribute {name!r}")
    return getattr(importlib.import_module(f"drawnet.{_PUBLIC[name]}"), name)
