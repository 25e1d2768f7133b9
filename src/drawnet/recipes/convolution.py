"""DRAW and convolutions: in place of its parts (conv_draw), around them, or within its windows."""

from drawnet.data.config import Data
from drawnet.models.conv_draw import ConvDrawConfig
from drawnet.models.ladder_draw import LadderDrawConfig
from drawnet.models.patch_draw import PatchDrawConfig
from drawnet.models.stem_draw import StemDrawConfig
from drawnet.training.config import Run


def mnist_conv() -> Run[ConvDrawConfig]:
    """Convolutional DRAW on static binarised MNIST.

    `drawnet train mnist_conv --out runs/conv`.  A bound of 117.1 nats on 1,000 validation images
    after 20,000 examples, 97 seconds on one core in bfloat16.
    """
    return Run(
        "mnist_conv",
        ConvDrawConfig(),
        Data("binarized_mnist"),
        examples=2_000_000,
        warmup=2_560,
    )


def mnist_ladder() -> Run[LadderDrawConfig]:
    """Convolutional DRAW with latents at three scales on static binarised MNIST.

    `drawnet train mnist_ladder`.  It has not been trained to its end (docs/convolution.md).
    """
    return Run(
        "mnist_ladder",
        LadderDrawConfig(),
        Data("binarized_mnist"),
        examples=1_000_000,
        batch=64,
        lr=2e-3,
        decay="wsd",
        evaluate_every=50_000,
    )


def mnist_stem() -> Run[StemDrawConfig]:
    """DRAW between convolutions on static binarised MNIST.

    `drawnet train mnist_stem`.  With `--examples 20000`, half a minute on one core: 132.5 nats on the
    10,000 test images.
    """
    return Run(
        "mnist_stem",
        StemDrawConfig(),
        Data("binarized_mnist"),
        examples=2_000_000,
        warmup=2_560,
    )


def mnist_patch() -> Run[PatchDrawConfig]:
    """DRAW with convolutions in its windows on static binarised MNIST (read 12×12, write 12×12).

    `drawnet train mnist_patch`.  With `--examples 80000`, 3 minutes on one core: 182.1 nats on the
    10,000 test images; during the first 20,000 examples it draws only the mean image.
    """
    return Run(
        "mnist_patch",
        PatchDrawConfig(),
        Data("binarized_mnist"),
        examples=2_000_000,
        warmup=2_560,
        kl_warmup=20_000,
    )


def cifar10_conv() -> Run[ConvDrawConfig]:
    """Convolutional DRAW on CIFAR-10, 256 levels a channel, true bits/dim.

    `drawnet train cifar10_conv`.  97 minutes on one core in bfloat16: 4.831 bits/dim on the first 1,000
    test images, and 4.84 in validation, falling throughout (docs/convolution.md).
    """
    return Run(
        "cifar10_conv",
        ConvDrawConfig(likelihood="logistic"),
        Data("cifar10"),
        examples=900_000,
        batch=32,
        lr=2e-3,
        warmup=1_280,
    )
