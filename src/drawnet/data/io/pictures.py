"""Read one picture of any kind: upright, opaque, 8 bits deep, of a given size."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from drawnet.errors import UserError, check_source

Fit = Literal["crop", "pad", "stretch"]
Background = Literal["auto", "white", "black"]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".jfif", ".avif",
)  # fmt: skip
BRIGHT = 0.75
"""Shapes brighter than this, on the average, are put on black instead of white."""


@dataclass(frozen=True)
class Look:
    """How pixels become 8 bits deep and opaque; None: by the picture itself.

    white       the value of a deep picture that becomes 255
    background  the grey level that stands where a picture is transparent
    """

    white: float | None = None
    background: int | None = None


@dataclass(frozen=True)
class Header:
    """What a picture's file says before its pixels are decoded.

    size         (height, width), upright
    over_8_bits  whether a value has more
    transparent  whether pixels may be
    """

    size: tuple[int, int]
    over_8_bits: bool
    transparent: bool


def read(source: Path | bytes, name: str, look: Look | None = None) -> Image.Image:
    """Read a picture as 'L' or 'RGB': first frame, oriented by its EXIF tag, opaque.

    Colour profiles are not applied. A damaged picture is a UserError that calls it `name`.
    """
    with _opened(source, name) as picture:
        return plain(ImageOps.exif_transpose(picture), look)


def header(source: Path | bytes) -> Header | None:
    """Read a picture's header, whatever its name; None if there is none of a known format."""
    try:
        with _opened(source, "") as picture:
            height, width = picture.height, picture.width
            if picture.getexif().get(0x0112, 1) >= 5:  # lies on its side
                height, width = width, height
            return Header((height, width), _deep(picture), _clear(picture))
    except UserError:
        return None


def white_of(highest: float, whole: bool) -> float:
    """Return the value that is white where `highest` is the highest there is.

    1 up to 1, otherwise the highest number of as few bits as hold it, of 8 to 16.  whole: integers.
    """
    if highest <= 1 and not whole:
        return 1.0
    return next((2.0**bits - 1 for bits in range(8, 17) if highest < 2**bits), np.inf)


def background_of(grey: NDArray[Any], alpha: NDArray[Any]) -> float:
    """Return the mean grey level, 0..255, of shapes of this opacity; 0 where there are none."""
    weight = alpha.astype(np.float64)
    return float((grey * weight).sum() / max(weight.sum(), 1e-9))


def survey(sources: Sequence[Path | bytes], headers: list[Header | None]) -> tuple[Look, str]:
    """Choose one look for many pictures, and say in a few words what is not as usual."""
    deep = [_highest(s) for s, h in zip(sources, headers, strict=True) if h and h.over_8_bits]
    tops = [top for top in deep if top is not None]
    clear = [s for s, h in zip(sources, headers, strict=True) if h and h.transparent]
    means = [m for s in clear[:: max(1, len(clear) // 256)] if (m := _shapes(s)) is not None]
    white = max((white_of(*top) for top in tops), default=None)
    said = (
        [f"values of {len(tops)} deep pictures go up to {white:g}, which is white"] if tops else []
    )
    if not means:
        return Look(white), "; ".join(said)
    background = 0 if float(np.mean(means)) > 255 * BRIGHT else 255
    kind = "bright" if background == 0 else "dark"
    name = "black" if background == 0 else "white"
    said += [f"transparent pictures, whose shapes are {kind}, stand on {name}"]
    return Look(white, background), "; ".join(said)


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


def plain(picture: Image.Image, look: Look | None = None) -> Image.Image:
    """Convert any mode to 'L' or 'RGB', as `look` says."""
    look = look or Look()
    if _deep(picture):
        return Image.fromarray(_eight_bits(np.asarray(picture), look.white))
    if _clear(picture):
        picture = picture.convert("RGBA")
        background = look.background
        if background is None:
            mean = background_of(*_layers(picture))
            background = 0 if mean > 255 * BRIGHT else 255
        ground = Image.new("RGBA", picture.size, (background,) * 3)
        picture = Image.alpha_composite(ground, picture)
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


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


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # AVIF is not in every Pillow


@contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[Image.Image]:
    """Open a picture; whatever its decoder raises is a UserError of one line."""
    file = io.BytesIO(source) if isinstance(source, bytes) else check_source(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_formats()) as picture:
                yield picture
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UserError(
            f"{name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels, which may be a decompression "
            "bomb: scale it down or remove it"
        ) from None
    except Exception as error:  # Pillow's decoders raise nearly any type
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{name} is not a readable picture ({why}): repair or remove it, or set skip_corrupt=True"
        ) from error


def _deep(picture: Image.Image) -> bool:
    return picture.mode.startswith("I") or picture.mode == "F"


def _clear(picture: Image.Image) -> bool:
    return picture.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in picture.info


def _highest(source: Path | bytes) -> tuple[float, bool] | None:
    """Return the highest value of a deep picture, and whether its values are integers."""
    try:
        with _opened(source, "") as picture:
            return float(np.asarray(picture).max()), picture.mode != "F"
    except UserError:
        return None


def _shapes(source: Path | bytes) -> float | None:
    """Return the mean grey level of what is opaque in a picture; None if all of it is, or nothing."""
    try:
        with _opened(source, "") as picture:
            grey, alpha = _layers(picture.convert("RGBA"))
    except UserError:
        return None
    return background_of(grey, alpha) if alpha.min() < 255 and alpha.any() else None


def _layers(picture: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return np.asarray(picture.convert("RGB").convert("L")), np.asarray(picture.getchannel("A"))


def _eight_bits(values: NDArray[Any], white: float | None) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    white = white or white_of(high, values.dtype.kind in "iu")
    if not (low >= 0 and high <= white < np.inf):  # false for what is not a number
        raise ValueError(f"values from {low:g} to {high:g} have no known white")
    return np.rint(values * (255 / white)).astype(np.uint8)
