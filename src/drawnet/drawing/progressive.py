"""Pictures that get sharper by the byte: a model's steps, JPEG and WebP at no more bytes.

The model's bytes are ideal (`evaluation.progressive`).  Those of JPEG and WebP are real, but for the
header: what all files of the same size and quality begin with, quantisation and code tables included,
counts as known to the receiver.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from drawnet.drawing import figures, files
from drawnet.evaluation.progressive import Progress

FORMATS: dict[str, list[dict[str, Any]]] = {
    "JPEG": [{"quality": q, "subsampling": s} for q in range(1, 96) for s in ("4:2:0", "4:4:4")],
    "WebP": [{"quality": q, "method": 6} for q in range(101)],
}
"""Settings of Pillow that are tried, by format; lossy WebP has no other subsampling than 4:2:0."""
LINE = 14
"""Height of a line of text, screen pixels."""
MOST = 20
"""Images for which the picture has room, a text under each."""
WEBP_HEADER = 30
"""RIFF 12, chunk 8, frame 10 bytes (RFC 9649, RFC 6386)."""


class Coded(NamedTuple):
    """A picture in another format."""

    image: Tensor
    """What the file shows, (C, H, W) in [0, 1]."""
    size: int
    """Bytes of the file."""
    header: int
    """Those of them that do not depend on the picture."""


def coded(picture: Image.Image, kind: str, **options: Any) -> Coded:
    """Save a grey or RGB picture as JPEG or WebP, and read it back."""
    buffer = io.BytesIO()
    picture.save(buffer, format=kind.upper(), **options)
    data = buffer.getvalue()
    with Image.open(buffer) as back:
        values = np.array(back.convert(picture.mode), np.float32) / 255
    image = torch.from_numpy(values.reshape(*values.shape[:2], -1)).permute(2, 0, 1)
    return Coded(image, len(data), _jpeg_header(data) if kind == "JPEG" else WEBP_HEADER)


def _jpeg_header(data: bytes) -> int:
    """Return the bytes of all segments to the scan's own header, and of the end's marker.   ITU T.81"""
    place, marker = 2, 0
    while marker != 0xDA:
        marker = data[place + 1]
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return place + 2


def versions(image: Tensor, kind: str) -> list[Coded]:
    """Return an image (C, H, W) in all settings of a format."""
    (picture,) = figures.singles(image[None])
    return [coded(picture, kind, **options) for options in FORMATS[kind]]


def best(image: Tensor, found: Sequence[Coded], limit: float) -> Coded:
    """Choose the version with the least squared error in at most so many bytes without header.

    The smallest, if all are larger.
    """
    fitting = [k for k in found if k.size - k.header <= limit]
    if not fitting:
        return min(found, key=lambda k: k.size - k.header)
    return min(fitting, key=lambda k: float(((k.image - image) ** 2).sum()))


def frames(x: Tensor, progress: Progress) -> Iterator[Image.Image]:
    """Yield a picture for each number of steps, 0 to T, of images x (n, C, H, W): a column for each.

    Rows: the images, the model's, JPEG's, WebP's; under each image its bytes.
    """
    steps = len(progress.bits) - 1
    others = {kind: [versions(image, kind) for image in x] for kind in FORMATS}
    for t, (bits, images) in enumerate(zip(*progress, strict=True)):
        ideal = (bits / 8).tolist()
        rows = {
            f"the pictures; after {t} of {steps} steps": (x, [""] * len(x)),
            "the model: ideal bytes": (images, [f"{size:.1f}" for size in ideal]),
        }
        for kind, found in others.items():
            chosen = [best(*each) for each in zip(x, found, ideal, strict=True)]
            sizes = [str(k.size - k.header) for k in chosen]
            title = f"{kind}: bytes without header, at most the model's or the fewest possible"
            rows[title] = torch.stack([k.image for k in chosen]), sizes
        yield _table(rows)


def _table(rows: dict[str, tuple[Tensor, list[str]]]) -> Image.Image:
    """Draw rows of images (n, C, H, W) with a title above each row and a text under each image."""
    strips = [figures.grid(images, columns=len(images)) for images, _ in rows.values()]
    width, height = strips[0].size
    block = height + 2 * LINE + 6
    whole = Image.new("RGB", (max(width + 8, 420), block * len(rows) + 4), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default()
    for k, (strip, (title, (_, texts))) in enumerate(zip(strips, rows.items(), strict=True)):
        top = 4 + k * block
        draw.text((4, top), title, "black", font)
        whole.paste(strip, (4, top + LINE))
        for j, text in enumerate(texts):
            left = 4 + j * (width + 2) // len(texts)
            draw.text((left, top + LINE + height + 1), text, "black", font)
    return whole


def save(x: Tensor, progress: Progress, path: Path) -> None:
    """Write the frames as .gif or .webp, in about five seconds."""
    steps = len(progress.bits) - 1
    files.save_animation(list(frames(x, progress)), path, fps=min(12, max(1.5, steps / 5)), hold=3)
