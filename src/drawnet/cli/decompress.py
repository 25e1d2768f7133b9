"""Get back the images of a compressed file."""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from drawnet.cli._shared import parse
from drawnet.errors import UserError, check_folder, check_source, check_target, kind_of, reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

GROUP, WORDS = "publish", "FILE"


@dataclass(frozen=True)
class Decompress:
    """Get back the images that `drawnet compress` compressed."""

    file: tyro.conf.Positional[Path]
    """The compressed file."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("images")
    """A new folder for the pictures (00000.png, …), or a file of arrays (.npz)."""
    run: Path | None = None
    """The model that compressed them, if it does not come with drawnet."""


def main(arguments: Sequence[str]) -> None:
    command = parse(Decompress, "decompress", arguments)
    check_source(command.file)
    arrays = command.out.suffix.lower() == ".npz"
    if arrays:
        check_target(command.out)
    else:
        new_folder(command.out)
    from tqdm import tqdm

    from drawnet.compression import container, files

    header, _ = container.read(command.file)
    with tqdm(total=header.images, unit="image", disable=not sys.stderr.isatty()) as bar:
        pixels, labels, levels = files.decompress(command.file, command.run, bar.update)
    if arrays:
        write_arrays(command.out, pixels, labels)
    else:
        write_pictures(command.out, pixels * (255 // (levels - 1)), labels)
    print(f"{command.out}: {len(pixels):,} images")


def new_folder(path: Path) -> None:
    """Raise UserError unless a folder of that name can be made."""
    if kind_of(path) and (kind_of(path) != "folder" or any(path.iterdir())):
        raise UserError(f"{path} is there already: name a new folder")
    check_folder(path)


def write_arrays(path: Path, pixels: "Array", labels: "Array | None") -> None:
    """Write images (n, C, H, W), and labels if there are any, as .npz."""
    from drawnet.drawing.outputs import Arrays

    rows = {"images": pixels} | ({} if labels is None else {"labels": labels})
    arrays = Arrays(path, len(pixels), pixels[0].nbytes)
    arrays.put(**rows)
    arrays.save()


def write_pictures(folder: Path, pixels: "Array", labels: "Array | None") -> None:
    """Write images as 00000.png, …, and labels as labels.json: all or nothing."""
    import json

    from PIL import Image

    folder = folder.resolve()
    scratch = folder.with_name(f".{folder.name[-50:]}.{os.getpid()}.part")
    try:
        scratch.mkdir(parents=True)
        for k, image in enumerate(pixels):
            array = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
            Image.fromarray(array).save(scratch / f"{k:05}.png")
        if labels is not None:
            (scratch / "labels.json").write_text(json.dumps(labels.tolist()), encoding="utf-8")
        scratch.replace(folder)
    except OSError as why:
        raise UserError(f"{folder} could not be written: {reason(why)}") from why
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
