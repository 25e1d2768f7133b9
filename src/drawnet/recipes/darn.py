"""Deep autoregressive networks."""

from drawnet.data.config import Data
from drawnet.models.darn import DARNConfig
from drawnet.training.config import Run


def mnist_darn() -> Run[DARNConfig]:
    """A deep autoregressive network of 500 hidden units on static binarised MNIST.

    `drawnet train mnist_darn`.  The paper, by importance sampling: 84.71 nats, 84.13 with adaptive
    weight noise (here `--model.weight-noise 2e-5`, without a gain yet).  7 minutes on one core: a bound
    of 89.19 nats on the 10,000 test images, 86.99 by 500 importance samples on 1,000 of them; without
    weight decay it overfits (docs/log.md).
    """
    return Run(
        "mnist_darn",
        DARNConfig(),
        Data("binarized_mnist"),
        examples=2_500_000,
        batch=100,
        lr=1e-2,
        weight_decay=0.06,
        kl_warmup=500_000,
        evaluate_every=250_000,
        precision="float32",
    )
