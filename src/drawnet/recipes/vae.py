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


def cifar10_vae() -> Run[VAEConfig]:
    """A variational auto-encoder on CIFAR-10, 256 levels a channel, true bits/dim.

    `drawnet train cifar10_vae`.  6.330 bits/dim on the first 1,000 test images after 2,750,000 examples,
    49 minutes of one core in bfloat16; validation rises from there on.  `cifar10_conv`: 4.831.
    """
    return Run(
        "cifar10_vae",
        VAEConfig(units=1000, layers=2, latents=200, likelihood="logistic"),
        Data("cifar10"),
        examples=4_500_000,
        warmup=2_560,
    )
