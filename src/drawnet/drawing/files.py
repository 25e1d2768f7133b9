"""Write picture and animation files: atomically, and a GIF with one palette.

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
from torch import Tensor

from drawnet.data.io import pictures
from drawnet.drawing import figures, strokes
from drawnet.drawing.figures import Trajectory
from drawnet.errors import UserError, write_bytes, write_text
from drawnet.models.base import Model

Array = npt.NDArray[Any]

PICTURES: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG", "optimize": True},
    ".webp": {"format": "WEBP", "lossless": True},
    ".jpg": {"format": "JPEG", "quality": 95},
}
ANIMATIONS: dict[str, dict[str, Any]] = {".gif": {"format": "GIF"}, ".webp": PICTURES[".webp"]}
"""Options for saving pictures and animations, by the suffix of the name."""


def save(image: Image.Image, path: Path | str) -> None:
    """Write a picture as .png or .webp (lossless) or .jpg, atomically."""
    options, buffer = _options(path, PICTURES), io.BytesIO()
    image.save(buffer, **options)
    write_bytes(Path(path), buffer.getvalue())


def save_animation(
    frames: Sequence[Image.Image],
    path: Path | str,
    *,
    fps: float = 12,
    hold: float = 1.5,
    loop: bool = True,
) -> None:
    """Write frames as .gif (one palette of 256 colours) or .webp (lossless), atomically."""
    content = animation(frames, path, fps=fps, hold=hold, loop=loop)
    write_bytes(Path(path), content)


def animation(
    frames: Sequence[Image.Image],
    name: Path | str,
    *,
    fps: float = 12,
    hold: float = 1.5,
    loop: bool = True,
) -> bytes:
    """Encode frames as .gif or .webp, by the suffix of `name`.

    fps: frames per second; a GIF rounds to hundredths of a second, and viewers honour two or more.
    hold: seconds that the last frame stays.  loop: start again after it.
    """
    options, buffer = dict(_options(name, ANIMATIONS)), io.BytesIO()
    frame, last = max(20, round(100 / fps) * 10), round(hold * 100) * 10
    durations = [frame] * (len(frames) - 1) + [max(frame, last)]
    if options["format"] == "GIF":
        frames = _indexed(frames)
    if loop or options["format"] != "GIF":  # without this a GIF is played once
        options["loop"] = 0 if loop else 1
    first, *rest = frames
    first.save(buffer, save_all=True, append_images=rest, duration=durations, **options)
    return buffer.getvalue()


def _options(path: Path | str, formats: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return Pillow's options for the suffix of a path; UserError for an unknown one."""
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise UserError(f"cannot write {path}: let its name end in {' or '.join(formats)}")
    return formats[suffix]


def _indexed(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """Convert frames to one palette: the exact colours if 256 suffice, else those of median cut.

    Each colour maps to the nearest of the palette, without dithering, so that nothing flickers.
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
    """Convert colours to integers below 2²⁴, (h, w)."""
    r, g, b = np.asarray(frame.convert("RGB")).astype(np.int32).transpose(2, 0, 1)
    return np.asarray(r << 16 | g << 8 | b)


def _unpacked(numbers: Array) -> Array:
    """Convert integers below 2²⁴ to colours, (k, 3) uint8."""
    return np.stack([numbers >> shift & 255 for shift in (16, 8, 0)], 1).astype(np.uint8)


def _median_cut(frames: Sequence[Image.Image]) -> Array:
    """Choose 256 colours from a sample of all pixels, half of it from the last frame, shown longest."""
    rng, size = np.random.default_rng(0), 2**16
    sizes = [size // len(frames)] * len(frames) + [size]
    chosen = [
        rng.choice(_packed(frame).ravel(), size)
        for frame, size in zip([*frames, frames[-1]], sizes, strict=True)
    ]
    sample = Image.fromarray(_unpacked(np.concatenate(chosen))[None])
    return np.array(sample.quantize(256, kmeans=1).getpalette(), np.uint8).reshape(-1, 3)


def save_trajectory(trajectory: Trajectory, path: Path) -> None:
    """Write animation (.gif, .webp), all numbers (.npz), strokes (.svg), else the grid, by suffix."""
    suffix = path.suffix.lower()
    if suffix in (".gif", ".webp"):
        save_animation(figures.drawing(trajectory), path)
    elif suffix == ".npz":
        tensors = {"images": trajectory.images, "frames": trajectory.frames, **trajectory.windows}
        arrays: dict[str, Any] = {name: t.numpy() for name, t in tensors.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_bytes(path, buffer.getvalue())
    elif suffix == ".svg":
        write_text(path, strokes.svg(trajectory))
    else:
        save(figures.grid(trajectory.images), path)


def read_pictures(paths: Sequence[Path], model: Model, *, binary: bool, invert: bool) -> Tensor:
    """Read pictures at the model's size and channels, (n, C, H, W) in [0, 1]; UserError if invalid.

    binary: threshold at 0.5, for models of binary pixels.
    invert: dark strokes on white paper become light strokes on black.
    """
    channels, height, width = model.shape
    x = torch.empty(len(paths), *model.shape)
    for k, path in enumerate(paths):
        picture = pictures.fitted(pictures.read(path, str(path)), (height, width), "pad")
        array = np.array(picture.convert("L" if channels == 1 else "RGB"))
        x[k] = torch.from_numpy(array).view(height, width, channels).permute(2, 0, 1) / 255
    x = 1 - x if invert else x
    return (x >= 0.5).float() if binary else x


def save_comparison(x: Tensor, trajectory: Trajectory, path: Path) -> None:
    """Write input and reconstruction: .gif, .webp animated with both windows; else the last frame."""
    frames = figures.comparison(x, trajectory)
    if path.suffix.lower() in (".gif", ".webp"):
        save_animation(frames, path)
    else:
        save(frames[-1], path)
