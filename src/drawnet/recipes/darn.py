"""Deep autoregressive networks."""

from drawnet.models.darn import DARNConfig
from drawnet.run import Data, Run


def mnist_darn() -> Run[DARNConfig]:
    """A deep autoregressive network of 500 hidden units on static binarised MNIST.

    `drawnet train mnist_darn`.  The paper, by importance sampling: 84.71 nats, 84.13 with adaptive
    weight noise, which is not here.  With `--examples 300000`, one minute of one core: a bound of 105.2
    nats (rate 14.2) on 2,000 validation images, 104.2 on the test images.  Not trained to its end yet.
    """
    return Run(
        "mnist_darn",
        DARNConfig(),
        Data("binarized_mnist"),
        examples=5_000_000,
        batch=100,
        precision="float32",
    )
