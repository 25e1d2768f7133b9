"""Variational auto-encoders."""

from drawnet.models.vae import VAEConfig
from drawnet.run import Data, Run


def mnist_vae() -> Run[VAEConfig]:
    """A variational auto-encoder on static binarised MNIST.

    `drawnet train mnist_vae`.  A bound of 142.2 nats (rate 20.2) on 1,000 validation images after
    20,000 examples, 2 seconds of one core in bfloat16.  The whole run, 100 epochs, not done yet.
    """
    return Run(
        "mnist_vae",
        VAEConfig(),
        Data("binarized_mnist"),
        examples=5_000_000,
        warmup=2_560,
    )
