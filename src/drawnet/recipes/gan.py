"""Generative adversarial nets with their authors' settings."""

from drawnet.data.config import Data
from drawnet.models.gan import GANConfig
from drawnet.training.config import Run


def mnist_gan() -> Run[GANConfig]:
    """Generative adversarial nets on MNIST's grey levels, as published.

    `drawnet train mnist_gan`, about 45 minutes on one core.  The paper's Parzen estimate: 225 ± 2 nats.
    Stopped after 2.4 million examples: 59 nats on validation after two, by 1,000 samples, where the
    recipe before, updated in turn, had 62, and in the end 152.2 ± 1.5 on test (docs/log.md).
    """
    return Run(
        "mnist_gan",
        GANConfig(),
        Data("mnist"),
        examples=12_500_000,
        batch=100,
        optimizer="sgd",
        lr=0.1,
        warmup=0,
        decay="exponential",
        half_life=17_328_714,  # 1 / 1.000004 a batch of 100
        momentum=0.5,
        final_momentum=0.7,
        momentum_rise=12_500_000,  # 250 epochs of 50,000
        clip=1e6,  # none
        ema=0.0,
    )
