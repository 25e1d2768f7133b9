"""drawnet: DRAW (Gregor et al. 2015, arXiv 1502.04623) and its family.

import drawnet
model = drawnet.load("mnist")               # or drawnet.fit(images).model
images = model.sample(64, seed=0)           # (64, 1, 28, 28), pixel means
"""

import importlib
import os
from typing import Any

__version__ = "0.2.0"

# The kernels' threads wait in their own way; OpenMP's, which serve the rest of PyTorch, would spin
# for milliseconds on the same cores.  Read when PyTorch is first imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_PUBLIC = {
    "Bernoulli": "nn.distributions",
    "Draw": "models.draw",
    "DrawConfig": "models.draw",
    "Gaussian": "nn.distributions",
    "Latents": "models.latent",
    "Model": "models.base",
    "StepModel": "models.sequential",
    "TrainedRun": "training.fit",
    "View": "data.pipeline",
    "as_dataset": "data.libraries",
    "as_images": "models.display",
    "bound": "models.sequential",
    "evaluate": "evaluation.likelihood",
    "fit": "training.fit",
    "from_arrays": "data.images",
    "from_pretrained": "export.hub",
    "generate": "models.sequential",
    "load": "drawing.sample",
    "push_to_hub": "export.hub",
    "reconstruct": "models.sequential",
    "sample": "drawing.sample",
    "save_pretrained": "export.hub",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that the command line starts without torch."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'drawnet' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"drawnet.{_PUBLIC[name]}"), name)
    return found
