"""The file that holds coded images.

magic    8 bytes
version  1 byte
length   4 bytes, little-endian: of the header
header   JSON: `Header`
content  the coder's stack
check    the first 8 bytes of SHA-256 over all before
"""

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from drawnet.compression.codec import Coded
from drawnet.errors import UserError, schema
from drawnet.errors.schema import Ge, Le, NonNegativeInt, PositiveInt

MAGIC = b"\x89drawnet"
VERSION = 1
PREFIX = struct.Struct("<8sBI")
CHECK = 8
MAX_BATCH = 1024


@dataclass(frozen=True)
class Header:
    """What a file says of its content."""

    name: str
    """The bundled model's name; '' for a model of one's own."""
    identity: str
    """SHA-256, in hex, over the model's configuration and weights."""
    probe: str
    """SHA-256, in hex, over what the model computes for a fixed input."""
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    """(C, H, W)."""
    levels: Literal[2, 256]
    images: PositiveInt
    bins: Annotated[int, Ge(2), Le(4096), schema.rule(lambda n: n & (n - 1) == 0, "a power of two")]
    used: tuple[NonNegativeInt, ...]
    packed: NonNegativeInt
    batches: list[tuple[Annotated[int, Ge(1), Le(MAX_BATCH)], PositiveInt]]
    invert: bool = False
    """Whether the negatives are what is coded."""

    def __post_init__(self) -> None:
        if self.packed + sum(size * number for size, number in self.batches) != self.images:
            raise UserError("the numbers of images do not add up")
        if not self.used or len(set(self.used)) < len(self.used):
            raise UserError("the channels that are coded are none, or not different ones")


def write(header: Header, content: bytes) -> bytes:
    """Return the bytes of a file."""
    text = json.dumps(asdict(header), separators=(",", ":")).encode()
    body = PREFIX.pack(MAGIC, VERSION, len(text)) + text + content
    return body + hashlib.sha256(body).digest()[:CHECK]


def read(path: Path) -> tuple[Header, bytes]:
    """Return a file's header and content; UserError if it is damaged or not such a file."""
    data = schema.load(path)
    if data[: len(MAGIC)] != MAGIC:
        raise UserError(f"{path} is not a file of `drawnet compress`")
    if len(data) < PREFIX.size + CHECK:
        raise UserError(f"{path} is damaged: it ends too early")
    _, version, length = PREFIX.unpack_from(data)
    if version != VERSION:
        raise UserError(f"{path} is of format {version}, which this version of drawnet cannot read")
    body, check = data[:-CHECK], data[-CHECK:]
    if hashlib.sha256(body).digest()[:CHECK] != check:
        raise UserError(f"{path} is damaged: it is not what was written")
    text, content = body[PREFIX.size :][:length], body[PREFIX.size + length :]
    where = f"the header of {path}"
    header = schema.convert(schema.parse(text, where), Header, where)
    if len(content) % 4:
        raise UserError(f"{path} is damaged: its content is no whole number of words")
    return header, content


def coded(header: Header, content: bytes) -> Coded:
    """Return what a file holds, for the codec."""
    return Coded(header.images, header.bins, header.used, header.packed, header.batches, content)
