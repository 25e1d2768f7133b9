"""Classification of cluttered MNIST, 100×100, as in DRAW's section 4.1."""

from drawnet.models.convnet import ConvNetConfig
from drawnet.models.glimpse import GlimpseConfig
from drawnet.run import Data, Run


def cluttered_4() -> Run[GlimpseConfig]:
    """DRAW's reader on cluttered MNIST, four glimpses of 12×12.

    `drawnet train cluttered_4`.  The paper's test error: 4.18 %.  With `--examples 8000000`, 40 minutes
    of one core: 4.5 ± 0.2 % of the 10,000 test images.
    """
    return _reader("cluttered_4", 4)


def cluttered_8() -> Run[GlimpseConfig]:
    """DRAW's reader on cluttered MNIST, eight glimpses of 12×12.

    `drawnet train cluttered_8`.  The paper's test error: 3.36 %.  Not trained to its end yet.
    """
    return _reader("cluttered_8", 8)


def cluttered_conv() -> Run[ConvNetConfig]:
    """The convolutional baseline on cluttered MNIST, 8 filters of 10×10 and 256 hidden units.

    `drawnet train cluttered_conv`.  The paper's test error: 14.35 %.  Not trained to its end yet.
    """
    return Run(
        "cluttered_conv",
        ConvNetConfig(),
        Data("cluttered"),
        examples=5_000_000,
        batch=64,
        validation_images=10_000,
    )


def _reader(name: str, glimpses: int) -> Run[GlimpseConfig]:
    return Run(
        name,
        GlimpseConfig(glimpses=glimpses, window_clip=10.0),
        Data("cluttered"),
        examples=10_000_000,
        batch=64,
        validation_images=10_000,
        evaluate_every=200_000,
    )
