"""The first ten minutes: DRAW on the 5,000 digits that come with the package."""

from drawnet.models.draw import DrawConfig
from drawnet.run import Data, Run


def digits_quick() -> Run[DrawConfig]:
    """DRAW with attention on the embedded digits, a few minutes on two cores."""
    return Run(
        "digits_quick",
        DrawConfig(steps=16, units=256, latents=50, read=5, write=5),
        Data("digits", "dynamic"),
        examples=120_000,
        batch=64,
    )
