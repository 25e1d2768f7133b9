"""Deep generative stochastic networks with their authors' settings."""

from drawnet.models.gsn import GSNConfig
from drawnet.run import Data, Run


def mnist_gsn() -> Run[GSNConfig]:
    """A deep generative stochastic network on MNIST's grey levels, as published.

    `drawnet train mnist_gsn`.  The paper's Parzen estimate: 214 ± 1.1 nats.  Half the published rate
    of 0.25, for the authors' momentum takes a mean of gradients where ours takes a sum.  With
    `--examples 40000`, one minute of one core in bfloat16: a walk-back cost of 439 nats on 2,000
    validation images, and no digits yet.  Not trained to its end.
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
