"""Files of pictures and of animations: whole or not at all, and a GIF in one palette.

w h  screen pixels
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from drawnet.checkpoint import write_atomically
from drawnet.errors import UserError

Array = npt.NDArray[Any]

PICTURES: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG", "optimize": True},
    ".webp": {"format": "WEBP", "lossless": True},
    ".jpg": {"format": "JPEG", "quality": 95},
}
ANIMATIONS: dict[str, dict[str, Any]] = {".gif": {"format": "GIF"}, ".webp": PICTURES[".webp"]}
"""How pictures and animations are saved, by the suffix of the name."""


def save(image: Image.Image, path: Path | str) -> None:
    """Write a picture as .png or .webp (exact) or .jpg, whole or not at all."""
    options, buffer = _options(path, PICTURES), io.BytesIO()
    image.save(buffer, **options)
    write_atomically(Path(path), lambda scratch: scratch.write_bytes(buffer.getvalue()))


def save_animation(
    frames: Sequence[Image.Image],
    path: Path | str,
    *,
    fps: float = 12,
    hold: float = 1.5,
    loop: bool = True,
) -> None:
    """Write frames as .gif (one palette of 256 colours) or .webp (exact), whole or not at all."""
    content = animation(frames, path, fps=fps, hold=hold, loop=loop)
    write_atomically(Path(path), lambda scratch: scratch.write_bytes(content))


def animation(
    frames: Sequence[Image.Image],
    name: Path | str,
    *,
    fps: float = 12,
    hold: float = 1.5,
    loop: bool = True,
) -> bytes:
    """The content of a file of this name that shows the frames: .gif or .webp, by its suffix.

    fps: frames a second, rounded to a GIF's hundredths of a second; viewers honour two or more.
    hold: seconds that the last frame stays.  loop: start again after it.
    """
    options, buffer = dict(_options(name, ANIMATIONS)), io.BytesIO()
    frame, last = max(20, round(100 / fps) * 10), round(hold * 100) * 10
    durations = [frame] * (len(frames) - 1) + [max(frame, last)]
    if options["format"] == "GIF":
        frames = _indexed(frames)
    if loop or options["format"] != "GIF":  # a GIF that says nothing is played once
        options["loop"] = 0 if loop else 1
    first, *rest = frames
    first.save(buffer, save_all=True, append_images=rest, duration=durations, **options)
    return buffer.getvalue()


def _options(path: Path | str, formats: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What Pillow needs to know for the suffix of a path."""
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise UserError(f"cannot write {path}: let its name end in {' or '.join(formats)}")
    return formats[suffix]


def _indexed(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """Frames with one palette for all: the exact colours if 256 suffice, else the median cut's.

    Each colour goes to the nearest of the palette, undithered, so that nothing flickers.
    """
    used, nearest = np.zeros(2**24, bool), np.zeros(2**24, np.uint8)
    for frame in frames:
        used[_packed(frame)] = True
    colours = _unpacked(np.flatnonzero(used))
    palette = colours if len(colours) <= 256 else _median_cut(frames)
    parts = torch.split(torch.from_numpy(colours).float(), 2**16)
    target = torch.from_numpy(palette).float()
    nearest[used] = torch.cat([torch.cdist(part, target).argmin(1) for part in parts]).numpy()
    pictures = [Image.fromarray(nearest[_packed(frame)]) for frame in frames]
    for picture in pictures:
        picture.putpalette(palette.tobytes())
    return pictures


def _packed(frame: Image.Image) -> Array:
    """Colours as numbers below 2²⁴, (h, w)."""
    r, g, b = np.asarray(frame.convert("RGB")).astype(np.int32).transpose(2, 0, 1)
    return np.asarray(r << 16 | g << 8 | b)


def _unpacked(numbers: Array) -> Array:
    """Numbers below 2²⁴ as colours, (k, 3) uint8."""
    return np.stack([numbers >> shift & 255 for shift in (16, 8, 0)], 1).astype(np.uint8)


def _median_cut(frames: Sequence[Image.Image]) -> Array:
    """256 colours for a sample of all pixels; half of it from the last frame, seen the longest."""
    rng, size = np.random.default_rng(0), 2**16
    sizes = [size // len(frames)] * len(frames) + [size]
    chosen = [
        rng.choice(_packed(frame).ravel(), size)
        for frame, size in zip([*frames, frames[-1]], sizes, strict=True)
    ]
    sample = Image.fromarray(_unpacked(np.concatenate(chosen))[None])
    return np.array(sample.quantize(256, kmeans=1).getpalette(), np.uint8).reshape(-1, 3)
