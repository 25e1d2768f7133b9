"""Two-digit MNIST, as in DRAW's section 4.2."""

from drawnet.models.draw import DrawConfig
from drawnet.run import Data, Run


def two_digits() -> Run[DrawConfig]:
    """Attentive DRAW on two MNIST digits in an image of 60×60, drawn anew each time.

    `drawnet train two_digits`.  Not trained to its end yet.
    """
    return Run(
        "two_digits",
        DrawConfig(),
        Data("two_digits", "dynamic"),
        examples=600_000,
        batch=64,
        kl_warmup=38_400,
        evaluate_every=50_000,
    )
