"""Compress images without loss, by a model."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from drawnet.cli._shared import DataDir, label_numbers, outputs, parse
from drawnet.errors import UserError, kind_of, write_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from drawnet.compression.files import Coder, Compressed

    Array = NDArray[Any]

GROUP, WORDS = "publish", "RUN IMAGE…"


@dataclass(frozen=True)
class Compress:
    """Compress images without loss: bits-back coding with the model's latents."""

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of bundled weights."""
    image: tyro.conf.Positional[tuple[Path, ...]]
    """Pictures of the model's size; or a data set: its name, or a file of arrays."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("images.draw")
    """The compressed file."""
    label: tuple[str, ...] = ()
    """Labels of the pictures, names or numbers (conditional models): one for all, or one for each."""
    binarise: bool = False
    """For models of binary pixels: code whether a pixel is at least half as bright as white."""
    invert: bool = False
    """Code the negatives (dark strokes on white, by a model of light ones on black); they come back
    as they were."""
    split: Literal["train", "valid", "test"] = "test"
    """The part of a data set."""
    data_dir: DataDir = None


def main(arguments: Sequence[str]) -> None:
    command = parse(Compress, "compress", arguments)
    if not command.image:
        raise UserError("drawnet compress: name the images after the run")
    from tqdm import tqdm

    paths = found(command.image)
    outputs(command.out, models=[command.run], files=paths or [])
    from drawnet.compression import files

    coder = files.load(command.run)
    if paths:
        pixels = read(paths, coder)
        labels = numbers(command, coder, len(pixels))
    else:
        pixels, labels = data_set(command, coder)
    pixels = as_levels(pixels, coder, command)
    begin = time.perf_counter()
    with tqdm(total=len(pixels), unit="image", disable=not sys.stderr.isatty()) as bar:
        made = files.compress(coder, pixels, labels, invert=command.invert, progress=bar.update)
    write_bytes(command.out, made.data)
    print(report(command.out, made, pixels, time.perf_counter() - begin))


def report(out: Path, made: "Compressed", pixels: "Array", seconds: float) -> str:
    """Say in lines what became of the images."""
    size, count, rest = len(made.data), pixels.size, made.images - made.packed
    line = f"{out}: {made.images:,} images, {size:,} bytes, {8 * size / count:.4f} bits a value"
    if not rest:
        return line + "\n  by bz2: they are too few for the model to begin"
    net = made.model_bits / (rest * count / made.images)
    line += f", {made.images / seconds:.0f} images/s"
    return (
        line
        + f"\n  {rest:,} by the model, {net:.4f} bits a value; the first {made.packed:,} by bz2"
    )


def found(arguments: Sequence[Path]) -> Sequence[Path] | None:
    """Return the pictures that the arguments name; None where they name a data set."""
    from drawnet.data.io.pictures import SUFFIXES

    for path in arguments:
        if kind_of(path) == "folder":
            raise UserError(f"{path} is a folder: name its pictures, {path}/*.png for instance")
    only = len(arguments) == 1 and arguments[0].suffix.lower() not in SUFFIXES
    return None if only else arguments


def read(paths: Sequence[Path], coder: "Coder") -> "Array":
    """Read pictures, uint8 (n, C, H, W) of 256 levels; UserError if one would come back changed."""
    import numpy as np

    from drawnet.data.io import pictures

    channels, height, width = coder.network.shape
    pixels = np.empty((len(paths), channels, height, width), np.uint8)
    for k, path in enumerate(paths):
        picture, header = pictures.read(path, str(path)), pictures.header(path)
        if picture.size != (width, height):
            have = f"{picture.width}x{picture.height}"
            raise UserError(
                f"{path} is {have} pixels, the model codes {width}x{height}: scale it first"
            )
        if header and (header.over_8_bits or header.transparent):
            raise UserError(f"{path} has transparent or deep pixels, which would not come back")
        array = np.asarray(picture.convert("RGB"))
        if channels == 1 and (array != array[..., :1]).any():
            raise UserError(f"{path} has colours, the model codes grey: convert it first")
        pixels[k] = array[..., :channels].transpose(2, 0, 1)
    return pixels


def data_set(command: Compress, coder: "Coder") -> "tuple[Array, Array | None]":
    """Read a split of a data set: pixels of 256 levels, and labels if the model takes them."""
    from drawnet import data
    from drawnet.data.pipeline import crop

    if command.label:
        raise UserError("--label is for pictures: a data set has its own labels")
    import torch

    found = data.load(str(command.image[0]), command.data_dir)
    images = found.splits[command.split]
    pixels = images.pixels[:] * (1 if found.levels == 256 else 255)
    if command.split == "train" and pixels.shape[1:] != tuple(found.shape):
        pixels = crop(torch.from_numpy(pixels), found.shape).numpy()
    return pixels, images.labels if coder.network.classes else None


def numbers(command: Compress, coder: "Coder", n: int) -> "Array | None":
    """Return the labels of n pictures, int64 (n,); None if none are named."""
    import numpy as np

    if not command.label:
        return None
    found = label_numbers(coder.saved, command.label)
    if len(found) not in (1, n):
        raise UserError(
            f"--label names {len(found)} labels for {n} pictures: name one, or one for each"
        )
    return np.resize(np.array(found, np.int64), n)


def as_levels(pixels: "Array", coder: "Coder", command: Compress) -> "Array":
    """Convert 256 levels to those of the model; UserError if something would be lost unasked."""
    if coder.levels == 256:
        if command.binarise:
            raise UserError("the model codes grey levels: leave out --binarise")
        return pixels
    if not command.binarise and ((pixels > 0) & (pixels < 255)).any():
        raise UserError(
            "the images have grey levels, the model codes binary pixels: --binarise codes whether a "
            "pixel is at least half as bright as white"
        )
    return (pixels >= 128).astype(pixels.dtype)
