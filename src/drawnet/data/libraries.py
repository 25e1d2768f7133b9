"""Data sets of other libraries and of one's own code, read into memory as a `Dataset`.

Nothing of them is imported here: a data set is known by what it can do.  Hugging Face's have
`column_names` and `features`; PyTorch's have a length and items, each an image or (image, label, …).
"""

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from drawnet.data import Dataset, load
from drawnet.data.images import from_arrays
from drawnet.data.io.collection import LABEL_WORDS, one
from drawnet.data.io.files import afford
from drawnet.data.io.pictures import Fit, fitted, plain
from drawnet.errors import UserError, choose, outside

Layout = Literal["nhw", "nhwc", "nchw", "hwcn"] | None
Size = int | tuple[int, int] | None


def as_dataset(
    source: Any,
    labels: Any = None,
    *,
    shape: tuple[int, int, int] | None = None,
    layout: Layout = None,
    classes: Iterable[str] = (),
    size: Size = None,
    fit: Fit = "crop",
    key: str | None = None,
    name: str = "",
) -> Dataset:
    """Return any kind of images as a data set in memory.

    source   a `Dataset`; a data set's name, a folder or file; arrays or tensors, as for `from_arrays`;
             (images, labels); a torch `Dataset` of images or (image, label); a Hugging Face `Dataset`;
             or {'train': …, 'valid': …, 'test': …} of these, as a `DatasetDict` is
    labels   of arrays; for a Hugging Face data set the column of labels, else the usual names
    shape, layout, classes  as for `from_arrays`
    size     side, or (height, width), to which pictures (PIL) are brought; None: their own, if it is one
    fit      how: 'crop', 'pad' or 'stretch'
    key      the column of images of a Hugging Face data set, if there are several
    name     what the data set is called

    UserError, which says what is there and what to do, for anything else.
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str | Path):
        return load(outside.imported(str(source)), **({"size": size} if size else {}))
    sides = (size, size) if isinstance(size, int) else size
    splits = source if isinstance(source, Mapping) else {"": source}
    parts = {k: _part(v, labels, sides, fit, key, k or "data") for k, v in splits.items()}
    images = {k: part[0] for k, part in parts.items()}
    found = {k: part[1] for k, part in parts.items() if part[1] is not None}
    if isinstance(labels, Mapping):
        found = dict(labels)
    elif labels is not None and not isinstance(labels, str):
        found = {"": labels}
    called = name or type(source if "" in splits else next(iter(splits.values()))).__name__
    names = tuple(classes) or next((part[2] for part in parts.values() if part[2]), ())
    layout = layout or next((part[3] for part in parts.values() if part[3]), None)
    whole = "" in splits
    return from_arrays(
        images[""] if whole else images,
        (found.get("") if whole else found) if found else None,
        shape=shape,
        layout=layout,
        classes=names,
        name=called if called not in ("ndarray", "Tensor", "list", "tuple") else "arrays",
    )


def call(name: str, data_dir: Path | None, options: Mapping[str, Any]) -> Dataset:
    """Return what a function or class outside drawnet gives, called with options of its own.

    It is called with `data_dir` if it has such an argument, and returns anything that `as_dataset`
    takes.  UserError if it has not been imported, has no such option, or returns something else.
    """
    function = outside.loaded(name)
    home = name.rpartition(":")[0]
    if function is None:
        raise UserError(
            f"the data are {name}, of a file outside drawnet: import {home} before "
            f"(on the command line, name them by --data.name {home}.py:…)"
        )
    if not callable(function):
        raise UserError(f"{name} is no function or class that gives data")
    known = inspect.signature(function).parameters
    every = any(p.kind is p.VAR_KEYWORD for p in known.values())
    taken = {k: v for k, v in options.items() if every or choose(f"option of {name}", k, known)}
    if "data_dir" in known:
        taken["data_dir"] = data_dir
    found = function(**taken)
    if isinstance(found, str | Path):
        raise UserError(f"{name} gives {found!r}, and no images")
    return as_dataset(found, name=name)


def _part(
    source: Any, labels: Any, size: tuple[int, int] | None, fit: Fit, key: str | None, where: str
) -> tuple[Any, Any, tuple[str, ...], Layout]:
    """Return images, labels, the names of classes and the layout of a split."""
    if hasattr(source, "column_names") and hasattr(source, "features"):
        return _columns(source, labels, size, fit, key, where)
    if isinstance(source, tuple) and len(source) == 2:
        return *source, (), None
    several = isinstance(source, list) and source and isinstance(source[0], tuple | Image.Image)
    array = hasattr(source, "dtype") or (isinstance(source, list) and not several)
    if array or not hasattr(source, "__getitem__"):
        if not array and hasattr(source, "__iter__"):
            raise UserError(
                f"{where}: {type(source).__name__} gives its items in a row only: pass a data set "
                "with a length and items, or list(…) of them"
            )
        return source, None, (), None
    return _items(source, size, fit, where)


def _items(
    source: Any, size: tuple[int, int] | None, fit: Fit, where: str
) -> tuple[Any, Any, tuple[str, ...], Layout]:
    """Read a torch `Dataset`: items are images, or (image, label, …)."""
    if not hasattr(source, "__len__") or not len(source):
        raise UserError(f"{where}: {type(source).__name__} has no length, or no items: pass a list")
    first = source[0]
    pairs = isinstance(first, tuple | list) and len(first) > 1
    if isinstance(first, Mapping):
        raise UserError(f"{where}: its items are mappings: wrap them as (image, label)")
    images, labels = [], []
    for k in range(len(source)):
        item = source[k] if k else first
        image = item[0] if isinstance(item, tuple | list) else item
        images.append(_image(image, size, fit, f"{where}, item {k}"))
        if pairs:
            labels.append(_number(item[1]))
        if not k:
            afford(images[0].nbytes * len(source), f"{where}: {len(source)} images")
    names = getattr(source, "classes", ()) if pairs else ()
    named = isinstance(names, list | tuple) and all(isinstance(n, str) for n in names)
    layout: Layout = "nhwc" if isinstance(_first(first), Image.Image) else None
    return _stacked(images, where), labels if pairs else None, tuple(names) if named else (), layout


def _first(item: Any) -> Any:
    return item[0] if isinstance(item, tuple | list) else item


def _number(label: Any) -> Any:
    return label.item() if hasattr(label, "item") else label


def _image(image: Any, size: tuple[int, int] | None, fit: Fit, where: str) -> Any:
    """Return an item's image as an array; a picture, scaled to `size`, as (H, W, C)."""
    if isinstance(image, Image.Image):
        picture = plain(ImageOps.exif_transpose(image))
        pixels = np.asarray(fitted(picture, size, fit) if size else picture)
        return pixels[..., None] if pixels.ndim == 2 else pixels
    if hasattr(image, "detach"):
        image = image.detach().cpu()
    pixels = np.asarray(image)
    if pixels.ndim not in (1, 2, 3):
        raise UserError(f"{where} is no image: {type(image).__name__} {pixels.shape}")
    return pixels


def _stacked(images: list[Any], where: str) -> Any:
    """Return images of one shape as one array; pictures some of which are grey in three channels."""
    if {image.shape[-1] for image in images if image.ndim == 3} == {1, 3}:
        images = [i.repeat(3, -1) if i.shape[-1] == 1 and i.ndim == 3 else i for i in images]
    if len(shapes := {image.shape for image in images}) > 1:
        some = " and ".join(map(str, sorted(shapes)[:2]))
        raise UserError(
            f"{where}: images of several shapes, {some}: give size=, or scale them before"
        )
    return np.stack(images)


def _columns(
    source: Any, labels: Any, size: tuple[int, int] | None, fit: Fit, key: str | None, where: str
) -> tuple[Any, Any, tuple[str, ...], Layout]:
    """Read a Hugging Face `Dataset`: a column of pictures or arrays, and one of labels if there is."""
    if not hasattr(source, "__len__"):
        raise UserError(f"{where}: a streamed data set has no length: load it without streaming")
    columns, row = list(source.column_names), source[0]
    words = LABEL_WORDS if labels is None else (labels,)
    label = next((word for word in words if isinstance(word, str) and word in columns), None)
    if isinstance(labels, str) and labels != "none" and label is None:
        choose(f"column of {where}", labels, columns)
    able = [k for k in columns if k != label and _pictorial(row[k])]
    chosen = one(key, able, "column of images", Path(where))
    images = [_image(source[k][chosen], size, fit, f"{where}, row {k}") for k in range(len(source))]
    layout: Layout = "nhwc" if isinstance(row[chosen], Image.Image) else None
    values = [_number(value) for value in source[label]] if label else None
    names = getattr(source.features[label], "names", None) if label else None
    return _stacked(images, where), values, tuple(names or ()), layout


def _pictorial(value: Any) -> bool:
    """Whether a cell is a picture, or an array with at least two axes."""
    if isinstance(value, Image.Image):
        return True
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], list)
    return getattr(value, "ndim", 0) in (2, 3)
