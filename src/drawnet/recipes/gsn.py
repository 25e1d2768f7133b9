"""Deep generative stochastic networks with their authors' settings."""

from drawnet.data.config import Data
from drawnet.models.gsn import GSNConfig
from drawnet.training.config import Run


def mnist_gsn() -> Run[GSNConfig]:
    """A deep generative stochastic network on MNIST's grey levels, as published.

    `drawnet train mnist_gsn`.  The paper's Parzen estimate: 214 ± 1.1 nats.  The rate is half the
    published 0.25, because the authors' momentum averages gradients and ours sums them.  This is slow:
    no digits after 8 epochs.  With `--examples 900000 --optimizer adam --lr 1e-3 --decay cosine
    --warmup 10000 --ema 0.999`, 18 minutes on one core: 243.6 ± 2.2 (docs/literature.md).
    """
    return Run(
        "mnist_gsn",
        GSNConfig(),
        Data("mnist"),
        examples=5_000_000,
        batch=100,
        optimizer="sgd",
        lr=0.125,
        warmup=0,
        decay="exponential",
        half_life=6_914_128,  # 0.995 an epoch of 50,000
        momentum=0.5,
        final_momentum=0.5,
        ema=0.0,
    )
