"""The first ten minutes: DRAW on the 5,000 digits that come with the package."""

from drawnet.data.config import Data
from drawnet.models.draw import DrawConfig
from drawnet.training.config import Run


def digits_quick() -> Run[DrawConfig]:
    """DRAW with attention on the embedded digits, a few minutes on two cores."""
    return Run(
        "digits_quick",
        DrawConfig(steps=24, units=128, latents=32, read=2, write=5),
        Data("digits", "dynamic"),
        examples=180_000,
        batch=64,
        lr=3e-3,
        seed=1,  # of seeds 0 and 1 the better on validation: docs/log.md
        warmup=6_400,
        kl_warmup=20_000,
        evaluate_every=20_000,
        validation_images=500,
    )
