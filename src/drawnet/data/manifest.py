"""What a run keeps of its data: where they lie, and what they are, so that a change is noticed."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np

from drawnet.data import SPLITS, Dataset, names
from drawnet.data.config import Data
from drawnet.data.io.collection import note
from drawnet.errors import UserError, expand, kind_of, outside
from drawnet.errors.schema import PathText


@dataclass(frozen=True)
class Manifest:
    """What identifies a data set; saved with every model and checkpoint.

    checksum  of the images, see `Dataset.checksum`
    labels    SHA-256, in hex, over the labels of all splits
    counts    images of each split
    classes   the names of the labels 0, 1, …
    path      absolute path of a folder or file of one's own; '' for a data set with a name
    """

    checksum: str
    levels: Literal[2, 256] = 256
    shape: tuple[int, ...] = ()
    labels: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    classes: tuple[PathText, ...] = ()
    path: PathText = ""


def describe(data: Dataset, name: str = "") -> Manifest:
    """Return the manifest of a data set that was loaded as `name`."""
    digest = hashlib.sha256()
    for split in SPLITS:
        labels = data.splits[split].labels
        digest.update(
            split.encode() + (b"" if labels is None else np.ascontiguousarray(labels).data)
        )
    own = bool(name) and name not in names() and bool(kind_of(expand(name)))
    return Manifest(
        data.checksum,
        cast(Literal[2, 256], data.levels),
        data.shape,
        digest.hexdigest(),
        {split: len(images) for split, images in data.splits.items()},
        data.classes,
        str(expand(name).resolve()) if own else "",
    )


def difference(then: Manifest, now: Manifest) -> str:
    """Say in a few words how the data have changed; '' if they are the same, wherever they lie.

    Manifests of earlier versions know the checksum alone.
    """
    if then.checksum == now.checksum and then.labels in ("", now.labels):
        return "" if then.classes in ((), now.classes) else _classes(then, now)
    if then.shape and then.shape != now.shape:
        return f"images are {now.shape}, and were {then.shape}"
    if then.classes and then.classes != now.classes:
        return _classes(then, now)
    for split in SPLITS:
        if (before := then.counts.get(split, now.counts[split])) != now.counts[split]:
            return f"{split} has {now.counts[split]:,} images, and had {before:,}"
    if then.checksum != now.checksum:
        return "as many images, but other pixels"
    return "the same images, but other labels"


def _classes(then: Manifest, now: Manifest) -> str:
    changed = {
        "gone": sorted(set(then.classes) - set(now.classes)),
        "new": sorted(set(now.classes) - set(then.classes)),
    }
    parts = [f"{', '.join(some[:3])} {how}" for how, some in changed.items() if some]
    return f"classes: {' and '.join(parts)}" if parts else "classes in another order"


def locate(settings: Data, then: Manifest | None, name: str | None = None) -> Data:
    """Return a saved run's settings with the place of its data: `name`, else whence they were loaded.

    A relative path counts from where the run was made; if nothing is there, from here.  UserError if
    there are no data.
    """
    if name is None and then and then.path:
        paths = (then.path, settings.name)
        name = next((path for path in paths if kind_of(expand(path))), None)
        if name is None:
            raise UserError(
                f"the run's data, {then.path}, are not there: say where they are now by --data.name"
            )
    return replace(settings, name=outside.imported(name or "") or settings.name)


def load(
    settings: Data, then: Manifest | None, data_dir: Path | None = None, name: str | None = None
) -> Dataset:
    """Load a saved run's data, from where `locate` finds them."""
    return locate(settings, then, name).load(data_dir)


def say_changes(then: Manifest | None, data: Dataset) -> None:
    """Warn, in one line, if data are not as they were."""
    if then and (what := difference(then, describe(data))):
        note(f"{data.name} is not as it was when the model was trained: {what}")
