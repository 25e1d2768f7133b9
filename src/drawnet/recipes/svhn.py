"""House numbers: SVHN digits by attention, by convolutions, and by convolutions around DRAW.

All three weight the rate by ten or more in training, for coherent samples: with the bound alone an
image takes hundreds of nats of detail, and samples from the prior have no structure.
"""

from drawnet.data.config import Data
from drawnet.models.conv_draw import ConvDrawConfig
from drawnet.models.draw import DrawConfig
from drawnet.models.stem_draw import StemDrawConfig
from drawnet.training.config import Run


def svhn_draw() -> Run[DrawConfig]:
    """DRAW with attention on SVHN digits, 256 levels a channel, true bits/dim.

    `drawnet train svhn_draw`.  29 minutes on one core in bfloat16: 5.929 bits/dim (rate 29 nats) on 636
    test digits, the paper's cost 1,848 nats; nearly all samples look like house numbers.
    The paper draws images of whole numbers, 54 × 54, with 800 units, and claims no likelihood.
    """
    return Run(
        "svhn_draw",
        DrawConfig(steps=32, units=400, read=12, write=12, likelihood="logistic"),
        Data("svhn"),
        examples=240_000,
        batch=64,
        warmup=2_560,
        kl_weight=30.0,
        kl_warmup=20_000,
        evaluate_every=20_000,
    )


def svhn_stem() -> Run[StemDrawConfig]:
    """DRAW between convolutions on SVHN digits, 256 levels a channel, true bits/dim.

    `drawnet train svhn_stem`.  19 minutes on one core in bfloat16: 5.218 bits/dim (rate 88 nats) on 636
    test digits, the paper's cost 1,881 nats; most samples are legible (docs/convolution.md).
    """
    return Run(
        "svhn_stem",
        StemDrawConfig(units=400, likelihood="logistic"),
        Data("svhn"),
        examples=300_000,
        batch=64,
        warmup=2_560,
        kl_weight=10.0,
        evaluate_every=50_000,
    )


def svhn_conv() -> Run[ConvDrawConfig]:
    """Convolutional DRAW on SVHN digits, 256 levels a channel, true bits/dim.

    `drawnet train svhn_conv`.  The first 140,000 examples, 15 minutes on one core in bfloat16: 4.496
    bits/dim (rate 192 nats) on 636 test digits, the paper's cost 1,971 nats; no digits in the samples.
    """
    return Run(
        "svhn_conv",
        ConvDrawConfig(likelihood="logistic"),
        Data("svhn"),
        examples=240_000,
        batch=32,
        lr=2e-3,
        warmup=1_280,
        kl_weight=10.0,
        evaluate_every=20_000,
    )
