"""Deep autoregressive networks."""

from drawnet.models.darn import DARNConfig
from drawnet.run import Data, Run


def mnist_darn() -> Run[DARNConfig]:
    """A deep autoregressive network of 500 hidden units on static binarised MNIST.

    `drawnet train mnist_darn`.  The paper, by importance sampling: 84.71 nats, 84.13 with adaptive
    weight noise, which is not here.  15 minutes of one core: a bound of 91.78 nats on the 10,000 test
    images, 89.46 by 500 importance samples on 1,000 of them; by then it overfits (docs/literature.md).
    """
    return Run(
        "mnist_darn",
        DARNConfig(),
        Data("binarized_mnist"),
        examples=5_000_000,
        batch=100,
        precision="float32",
    )
