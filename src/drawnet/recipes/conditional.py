"""Models that are told what to draw."""

from drawnet.models.conv_draw import ConvDrawConfig
from drawnet.run import Data, Run


def mnist_conditional() -> Run[ConvDrawConfig]:
    """Convolutional DRAW that is told the digit, on MNIST with dynamic binarisation.

    `drawnet train mnist_conditional --out runs/told`, then `drawnet sample runs/told --label 7`.
    About half an hour on one core in bfloat16: an estimate, it has not been trained to the end yet.
    """
    return Run(
        "mnist_conditional",
        ConvDrawConfig(classes=10),
        Data("mnist", "dynamic"),
        examples=350_000,
        warmup=2_560,
        evaluate_every=50_000,
    )
