"""The paper's MNIST generation: static binarised MNIST, T = 64, 256 units, 100 latents."""

from drawnet.models.draw import DrawConfig
from drawnet.run import Data, Run


def mnist() -> Run[DrawConfig]:
    """DRAW with attention on static binarised MNIST (read 2×2, write 5×5)."""
    return Run(
        "mnist",
        DrawConfig(),
        Data("binarized_mnist"),
        examples=15_000_000,
        kl_warmup=38_400,
        evaluate_every=50_000,
    )


def mnist_no_attention() -> Run[DrawConfig]:
    """DRAW without attention on static binarised MNIST."""
    return Run(
        "mnist_no_attention",
        DrawConfig(read=0, write=0),
        Data("binarized_mnist"),
        examples=15_000_000,
    )
