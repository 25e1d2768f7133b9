"""Images of your own: a run that suits them."""

from drawnet.data.config import Data
from drawnet.models.draw import DrawConfig
from drawnet.recipes._own import choose_run as choose_run
from drawnet.recipes._own import strokes
from drawnet.training.config import Run


def images() -> Run[DrawConfig]:
    """DRAW on a folder of your own images (--data.name FOLDER), with settings chosen by looking at them.

    `drawnet train images --data.name FOLDER` says in four lines what it has chosen and why; options
    override it.  Black and white drawings: attentive DRAW on Bernoulli pixels, conditioned on class
    sub-folders if there are any, as below.  Grey levels and colour: convolutional DRAW, 256 levels a
    channel, as in `cifar10_conv`.
    """
    return strokes(Data("FOLDER", "dynamic"), 0, 28, 1_000_000)
