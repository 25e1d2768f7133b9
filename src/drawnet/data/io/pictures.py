"""Read one picture of any kind: upright, opaque, 8 bits deep, of a given size."""

import io
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from drawnet.errors import UserError

Fit = Literal["crop", "pad", "stretch"]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
)  # fmt: skip


def read(source: Path | bytes, name: str) -> Image.Image:
    """Read a picture as 'L' or 'RGB': first frame, oriented by its EXIF tag, on white.

    Colour profiles are not applied. A damaged picture is a UserError that calls it `name`.
    """
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise UserError(f"{name} is not a file: name a picture")
    file = io.BytesIO(source) if isinstance(source, bytes) else Path(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as picture:
                return plain(ImageOps.exif_transpose(picture))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UserError(
            f"{name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels, which may be a decompression "
            "bomb: scale it down or remove it"
        ) from None
    except Exception as error:  # Pillow's decoders raise nearly any type
        raise UserError(
            f"{name} is not a readable picture ({error}): repair or remove it, or set skip_corrupt=True"
        ) from error


def stacked(cells: list[bytes], shape: tuple[int, int, int], path: Path) -> NDArray[np.uint8]:
    """Decode pictures, all of `shape` (C, H, W), to (N, C, H, W); C = 1 is ITU-R 601 luma."""
    pixels = np.empty((len(cells), *shape), np.uint8)
    mode = "L" if shape[0] == 1 else "RGB"
    for k, cell in enumerate(cells):
        picture = read(cell or b"", f"{path}, row {k}").convert(mode)
        if picture.size != shape[:0:-1]:
            raise UserError(
                f"{path}, row {k}: {picture.width}x{picture.height} pixels, not "
                f"{shape[2]}x{shape[1]}: get a new copy"
            )
        pixels[k] = np.asarray(picture).reshape(*shape[1:], -1).transpose(2, 0, 1)
    return pixels


def plain(picture: Image.Image) -> Image.Image:
    """Convert any mode to 'L' or 'RGB': 16 bits to 8 by rounding, transparency to white."""
    if picture.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(picture)))
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no known white")
    if picture.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit pixels have no known white")
    return np.rint(values / 257).astype(np.uint8)


def fitted(picture: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """Resize a picture to (height, width) by Lanczos; unchanged if it has that size.

    crop     scaled to cover, then the centre
    pad      scaled to fit inside, on white
    stretch  both sides scaled independently
    """
    height, width = size
    if fit == "crop":
        return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    if fit == "stretch":
        return picture.resize((width, height), Image.Resampling.LANCZOS)
    scale = min(width / picture.width, height / picture.height)
    inner = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    padded = Image.new(picture.mode, (width, height), "white")
    place = ((width - inner[0]) // 2, (height - inner[1]) // 2)
    padded.paste(picture.resize(inner, Image.Resampling.LANCZOS), place)
    return padded
