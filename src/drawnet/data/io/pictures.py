"""One picture of any kind, made upright, opaque, 8 bits deep and of one size."""

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
    """The picture as 'L' or 'RGB': first frame, turned as its EXIF says, laid on white.

    Colour profiles are not applied. A damaged picture is a UserError that calls it `name`.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as picture:
                return plain(ImageOps.exif_transpose(picture))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UserError(
            f"{name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels, which may be a decompression "
            "bomb: scale it down or remove it"
        ) from None
    except Exception as error:  # Pillow's decoders throw nearly anything at a damaged file
        raise UserError(
            f"{name} is no readable picture ({error}): mend or remove it, or skip_corrupt=True"
        ) from error


def stacked(cells: list[bytes], shape: tuple[int, int, int], path: Path) -> NDArray[np.uint8]:
    """Encoded pictures, all of `shape` (C, H, W), as (N, C, H, W); C of 1 is ITU-R 601 luma."""
    pixels = np.empty((len(cells), *shape), np.uint8)
    mode = "L" if shape[0] == 1 else "RGB"
    for k, cell in enumerate(cells):
        picture = read(cell or b"", f"{path}, row {k}").convert(mode)
        if picture.size != shape[:0:-1]:
            raise UserError(
                f"{path}, row {k}: {picture.width}x{picture.height} pixels, not "
                f"{shape[2]}x{shape[1]}: get it anew"
            )
        pixels[k] = np.asarray(picture).reshape(*shape[1:], -1).transpose(2, 0, 1)
    return pixels


def plain(picture: Image.Image) -> Image.Image:
    """Any mode to 'L' or 'RGB': 16 bits to 8 by rounding, whatever is transparent to white."""
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
    """The picture at (height, width), resampled by Lanczos; unchanged if it has that size.

    crop     scaled to cover, the middle kept
    pad      scaled to fit inside, white round it
    stretch  both sides scaled on their own
    """
    height, width = size
    if fit == "crop":
        return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    if fit == "stretch":
        return picture.resize((width, height), Image.Resampling.LANCZOS)
    scale = min(width / picture.width, height / picture.height)
    inner = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    sheet = Image.new(picture.mode, (width, height), "white")
    place = ((width - inner[0]) // 2, (height - inner[1]) // 2)
    sheet.paste(picture.resize(inner, Image.Resampling.LANCZOS), place)
    return sheet
