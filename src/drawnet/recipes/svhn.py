"""DRAW's house numbers: SVHN digits with the paper's windows of 12 × 12 and 32 steps."""

from drawnet.models.draw import DrawConfig
from drawnet.run import Data, Run


def svhn_draw() -> Run[DrawConfig]:
    """DRAW with attention on SVHN digits, 256 levels a channel, true bits/dim.

    `drawnet train svhn_draw`.  7.20 bits/dim in training (the mean of examples 2,500 to 3,000), 120
    images a second on one core in bfloat16: the whole run takes two hours there; not done yet.  The
    paper draws pictures of whole numbers, 54 × 54, with 800 units, and claims no likelihood for them.
    """
    return Run(
        "svhn_draw",
        DrawConfig(steps=32, units=400, read=12, write=12, likelihood="logistic"),
        Data("svhn"),
        examples=850_000,
        batch=64,
        warmup=2_560,
        kl_warmup=20_000,
    )
