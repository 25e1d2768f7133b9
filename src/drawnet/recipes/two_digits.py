"""Two-digit MNIST, as in DRAW's section 4.2."""

from drawnet.data.config import Data
from drawnet.models.draw import DrawConfig
from drawnet.training.config import Run


def two_digits() -> Run[DrawConfig]:
    """Attentive DRAW on two MNIST digits in an image of 60×60, with dynamic binarisation.

    `drawnet train two_digits`, 32 minutes on one core in bfloat16: 211.0 nats on the 10,000 test images.
    Windows of 12×12 and 32 steps, as in the paper for house numbers: with those of its MNIST model
    (2×2, 5×5, 64 steps) it learns several times more slowly (docs/log.md).
    """
    return Run(
        "two_digits",
        DrawConfig(steps=32, read=12, write=12),
        Data("two_digits", "dynamic"),
        examples=600_000,
        batch=64,
        kl_warmup=38_400,
        evaluate_every=25_000,
    )
