"""Images of your own."""

from drawnet.data.config import Data
from drawnet.models.draw import DrawConfig
from drawnet.training.config import Run


def images() -> Run[DrawConfig]:
    """DRAW with attention on a folder of images (--data.name FOLDER), 256 levels a channel."""
    return Run(
        "images",
        DrawConfig(steps=16, units=256, latents=100, read=8, write=8, likelihood="logistic"),
        Data("FOLDER", size=32),
        examples=500_000,
        batch=64,
    )
