"""SVHN (Netzer et al. 2011), whole numbers, prepared as in DRAW §4.3 (after Goodfellow et al. 2013).

The union of a number's digit boxes is enlarged by 30 %, cut out and resized to 64x64; training sees
random 54x54 crops of it, validation and test the centre.
"""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drawnet.data import Dataset, File, Images, Info
from drawnet.data.io.cache import cached, joined
from drawnet.data.io.files import counted, find, find_file, needing, read_parquet, reading
from drawnet.data.io.pictures import read
from drawnet.errors import UserError

SIDE, SEEN, ENLARGED = 64, 54, 1.3
_BASE = "http://ufldl.stanford.edu/housenumbers/"
_COUNTS = {"train": 33_402, "test": 13_068, "extra": 202_353}
_VALID = 4_701
_PART = "svhn_colour_512.parquet"
_PART_COUNT, _PART_VALID = 256, 32

INFO = Info(
    name="svhn_numbers",
    description="house numbers, colour: digits' boxes merged, enlarged by 30 %, 64x64, cropped "
    "to 54x54 (training at random, else the centre); valid is the last 4,701 of the 33,402 for "
    "training",
    licence="for non-commercial use only (Netzer et al. 2011)",
    source="Netzer, Wang, Coates, Bissacco, Wu, Ng 2011, Reading digits in natural images with "
    f"unsupervised feature learning; {_BASE}",
    files=(
        File(
            "train.tar.gz",
            (f"{_BASE}train.tar.gz",),
            "4b17bb33b6cd8f963493168f80143da956f28ec406cc12f8e5745a9f91a51898",
        ),
        File(
            "test.tar.gz",
            (f"{_BASE}test.tar.gz",),
            "57ac9ceb530e4aa85b55d991be8fc49c695b3d71c6f6a88afea86549efde7fb5",
        ),
    ),
)


def load(data_dir: Path, extra: bool = False) -> Dataset:
    """Read SVHN numbers: 28,701 / 4,701 / 13,068 images of 256 levels; labels: number of digits.

    Train is (3, 64, 64), of which training sees random crops; valid and test are (3, 54, 54).

    extra  also train on the 202,353 easier numbers of extra.tar.gz: 231,054 in all. The paper has
           231,053 and 4,701; it does not say which images it held out.

    From the folders train and test (N.png and digitStruct.mat) or the archives that hold them; if
    there are none, from a parquet file of the first 256 images of each, with columns
    `image`, `split`, `number`, `digits` and `boxes`: 224 / 32 / 256; the name says so.
    """
    part = find_file(data_dir, INFO.name, _PART)
    if part and not any(find_file(data_dir, INFO.name, *_places(s)) for s in ("train", "test")):
        return _from_part(part, extra)
    train, test = (find(data_dir, INFO.name, *_places(s)) for s in ("train", "test"))
    learn = cached([train], lambda: _official(train, "train"))
    end = len(learn) - _VALID
    splits = {"train": learn[:end], "valid": middle(learn[end:])}
    splits["test"] = middle(cached([test], lambda: _official(test, "test")))
    if not extra:
        return INFO.dataset(256, splits)
    more = find(data_dir, INFO.name, *_places("extra"), address=f"{_BASE}extra.tar.gz (2 GB)")
    splits["train"] = cached([train, more], lambda: joined([learn[:end], _official(more, "extra")]))
    part_name = "with the 202,353 extra numbers for training"
    return INFO.dataset(256, splits, name=f"{INFO.name}, {part_name}")


def cut(picture: Image.Image, boxes: NDArray[Any]) -> NDArray[np.uint8]:
    """Cut out a number: (3, 64, 64).

    boxes  (K, 4): left, top, right, bottom of each digit, in pixels. Their union grows by 30 %
           about its centre, within the picture, and both sides are resized to 64 by the triangle
           filter (which causes no ringing where it enlarges).
    """
    (left, top), (right, bottom) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    x, y = (right - left) * (ENLARGED - 1) / 2, (bottom - top) * (ENLARGED - 1) / 2
    box = (
        max(0.0, left - x),
        max(0.0, top - y),
        min(float(picture.width), right + x),
        min(float(picture.height), bottom + y),
    )
    if box[0] >= box[2] or box[1] >= box[3]:
        raise UserError(f"the digits' box {box} is not in the picture of {picture.size}")
    number = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)
    return np.asarray(number).transpose(2, 0, 1)


def middle(images: Images) -> Images:
    """Return the central 54x54."""
    start = (SIDE - SEEN) // 2
    pixels = images.pixels[:][:, :, start : start + SEEN, start : start + SEEN]
    return Images(np.ascontiguousarray(pixels), images.labels)


# ---- the published folders, packed or not -------------------------------------------------------


def _places(split: str) -> tuple[str, str]:
    return f"{split}/digitStruct.mat", f"{split}.tar.gz"


def _official(path: Path, split: str) -> Images:
    """Read numbers in order of N in N.png."""
    boxes = read_boxes(_struct(path, split), path)
    counted(len(boxes), _COUNTS[split], "numbers", path)
    order = {name: k for k, name in enumerate(sorted(boxes, key=_number))}
    pixels, found = np.empty((len(order), 3, SIDE, SIDE), np.uint8), 0
    for name, content in _pictures(path, split):
        if name in order:
            pixels[order[name]] = _cut(content, boxes[name], f"{path}, {name}")
            found += 1
    counted(found, len(order), "pictures with boxes", path)
    return Images(pixels, np.array([len(boxes[name]) for name in order], np.int64))


def _cut(content: bytes, boxes: NDArray[Any], name: str) -> NDArray[np.uint8]:
    picture = read(content, name)
    try:
        return cut(picture, boxes)
    except UserError as why:
        raise UserError(f"{name}: {why}: get a new copy") from why


def _number(name: str) -> int:
    return int(name.removesuffix(".png")) if name.removesuffix(".png").isdigit() else -1


def _struct(path: Path, split: str) -> bytes:
    with reading(path, "archive"):
        if path.name == "digitStruct.mat":
            return path.read_bytes()
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if member.name == f"{split}/digitStruct.mat" and file:
                    return file.read()
        raise ValueError(f"no {split}/digitStruct.mat in it")


def _pictures(path: Path, split: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each picture in a folder or archive."""
    if path.name == "digitStruct.mat":
        for picture in path.parent.glob("*.png"):
            with reading(picture, "picture"):
                content = picture.read_bytes()
            yield picture.name, content
        return
    with reading(path, "archive"), tarfile.open(path) as archive:
        for member in archive:
            folder, _, name = member.name.rpartition("/")
            if folder == split and name.endswith(".png") and (file := archive.extractfile(member)):
                yield name, file.read()


def read_boxes(raw: bytes, path: Path) -> dict[str, NDArray[np.float64]]:
    """Read digitStruct.mat (HDF5): for each picture's name the boxes (K, 4) of its digits.

    Left, top, right, bottom. A field of one digit is a number, of more a list of references.
    """
    with needing("h5py", path, "HDF5"):
        import h5py
    # Not h5py.File(io.BytesIO(raw)): what a damaged one leaves behind crashes the end of the process.
    with reading(path, "digitStruct.mat"), h5py.File(h5py.h5f.open_file_image(raw)) as file:
        boxes = {}
        struct = file["digitStruct"]
        for name, box in zip(struct["name"][:, 0], struct["bbox"][:, 0], strict=True):
            left, top, width, height = (
                [file[v][0, 0] if isinstance(v, h5py.Reference) else v for v in field[:, 0]]
                for field in (file[box][key] for key in ("left", "top", "width", "height"))
            )
            sides = np.array([left, top, width, height], np.float64)
            sides[2:] += sides[:2]
            boxes["".join(map(chr, file[name][:, 0]))] = sides.T
        return boxes


# ---- the part -----------------------------------------------------------------------------------


def _from_part(path: Path, extra: bool) -> Dataset:
    if extra:
        raise UserError(f"{INFO.name}: {path.name} has no extra numbers: omit the option")
    images, end = cached([path], lambda: _decoded(path)), _PART_COUNT - _PART_VALID
    splits = {
        "train": images[:end],
        "valid": middle(images[end:_PART_COUNT]),
        "test": middle(images[_PART_COUNT:]),
    }
    part_name = f"512 pictures of 46,470, split {end}/{_PART_VALID}/{_PART_COUNT}"
    description = f"{INFO.description.rpartition(';')[0]}; a part, {part_name}"
    return INFO.dataset(256, splits, name=f"{INFO.name}, {part_name}", description=description)


def _decoded(path: Path) -> Images:
    columns = read_parquet(path, "image", "split", "number", "digits", "boxes")
    first = range(1, _PART_COUNT + 1)
    order = list(zip(columns["split"], columns["number"], strict=True))
    if order != [(split, n) for split in ("train", "test") for n in first]:
        raise UserError(
            f"{path} is not the first {_PART_COUNT} of train and of test: get a new copy"
        )
    pixels, labels = [], []
    rows: Sequence[Any] = list(
        zip(columns["image"], columns["digits"], columns["boxes"], strict=True)
    )
    for (split, n), (content, digits, flat) in zip(order, rows, strict=True):
        if not digits or len(flat or ()) != 4 * len(digits):
            raise UserError(f"{path}, {split} {n}: not four sides for each digit: get a new copy")
        boxes = np.array(flat, np.float64).reshape(-1, 4)
        pixels.append(_cut(content or b"", boxes, f"{path}, {split} {n}"))
        labels.append(len(digits))
    return Images(np.stack(pixels), np.array(labels, np.int64))
