"""The first ten minutes: DRAW on the 5,000 digits that come with the package."""

from drawnet.data.config import Data
from drawnet.models.draw import DrawConfig
from drawnet.training.config import Run


def digits_quick() -> Run[DrawConfig]:
    """DRAW with attention on the embedded digits, a few minutes on two cores."""
    return Run(
        "digits_quick",
        DrawConfig(steps=32, units=256, latents=100, read=2, write=5),
        Data("digits", "dynamic"),
        examples=110_000,
        batch=64,
        warmup=6_400,
        kl_warmup=20_000,
        evaluate_every=20_000,
        validation_images=500,
    )
