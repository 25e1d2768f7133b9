"""The pictures that a command reads: files, folders and arrays, or images of a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from drawnet.cli._shared import label_numbers, open_data
from drawnet.data import SPLITS
from drawnet.errors import UserError, choose

if TYPE_CHECKING:
    from drawnet.drawing.inputs import Inputs
    from drawnet.training.checkpoint import SavedModel

IMAGES = """Pictures, folders of them, or files of arrays (.npz, .npy, IDX, parquet), converted to the
model's size and channels; default: images of the run's data."""
Paths = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(help=IMAGES)]
Split = Annotated[str, tyro.conf.arg(help="train, valid or test, if no pictures are given")]
Labels = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        help="labels of the pictures, names or numbers (conditional models): one for all, or one for "
        "each; default: class sub-folders, labels of the array or of the data set"
    ),
]
INVERT = "convert dark strokes on white paper to light strokes on black, as in the digits"
Invert = Annotated[bool, tyro.conf.arg(help=INVERT)]


def opened(command: Any, model: "SavedModel", n: int | None) -> "Inputs":
    """Open a command's pictures or, if it names none, n images of the data, evenly spaced; None: all."""
    from drawnet.data import subsample_indices
    from drawnet.data.pipeline import View
    from drawnet.drawing import inputs

    binary = getattr(model.run.model, "likelihood", "bernoulli") == "bernoulli"
    network = model.network
    if command.image and command.data_name:
        raise UserError("pictures and --data.name: give one of them")
    if command.image:
        return inputs.from_paths(command.image, network, binary=binary, invert=command.invert)
    choose("split", command.split, SPLITS)
    data = open_data(model, command.data_name, command.data_dir)
    size = len(data.splits[command.split])
    some = subsample_indices(size, n)
    view = View(data, command.split, model.run.data.binarise, some)
    numbers = range(size) if isinstance(some, slice) else some.tolist()
    return inputs.from_view(view, numbers, network, invert=command.invert)


def conditions(
    command: Any, model: "SavedModel", images: "Inputs", *, needed: bool = True
) -> list[int]:
    """Return the labels on which the model reads its images, one each; [] if it has no classes.

    UserError if they are needed and there are none.
    """
    if command.label or not model.network.classes:
        labels = label_numbers(model, command.label)
        if labels and len(labels) not in (1, len(images.names)):
            raise UserError(
                f"--label needs one for all or one for each image ({len(images.names)}), not "
                f"{len(labels)}"
            )
        return labels * len(images.names) if len(labels) == 1 else labels
    if not images.labels:
        if not needed:
            return []
        raise UserError(
            "the model is conditional, and the pictures have no labels: give --label, one for all or "
            "one for each"
        )
    known = model.data.classes if model.data else ()
    if not known or not images.classes or images.classes == known:
        return images.labels
    place = {k: known.index(choose("class", name, known)) for k, name in enumerate(images.classes)}
    return [place[k] for k in images.labels]
