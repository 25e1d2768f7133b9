"""Variational auto-encoders."""

from drawnet.data.config import Data
from drawnet.models.vae import VAEConfig
from drawnet.training.config import Run


def mnist_vae() -> Run[VAEConfig]:
    """A variational auto-encoder on static binarised MNIST.

    `drawnet train mnist_vae --model.latents 200`.  9 minutes on one core in bfloat16: a bound of 99.31
    nats on the 10,000 test images, 93.19 by 1,000 importance samples on 1,000 of them.
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
    49 minutes on one core in bfloat16; validation rises from then on.  `cifar10_conv`: 4.831.
    """
    return Run(
        "cifar10_vae",
        VAEConfig(units=1000, layers=2, latents=200, likelihood="logistic"),
        Data("cifar10"),
        examples=4_500_000,
        warmup=2_560,
    )
