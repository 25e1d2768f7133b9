"""Digits on demand: attentive DRAW that is told which digit an image shows."""

from drawnet.models.draw import DrawConfig
from drawnet.run import Data, Run


def mnist_conditional() -> Run[DrawConfig]:
    """Attentive DRAW told the digit, on MNIST drawn anew each time (dynamic binarisation).

    `drawnet train mnist_conditional`, then `drawnet sample runs/mnist_conditional --label 7` or, of
    all ten digits, `python benchmarks/conditional.py runs/mnist_conditional`.  Not trained to its
    end yet.
    """
    return Run(
        "mnist_conditional",
        DrawConfig(classes=10),
        Data("mnist", "dynamic"),
        examples=600_000,
        batch=64,
        kl_warmup=38_400,
        evaluate_every=50_000,
    )
