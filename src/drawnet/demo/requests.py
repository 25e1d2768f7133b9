"""Validate requests to the demo, JSON objects, field by field.

docs/http-api.md describes them.  `answers` computes the responses; only `server` knows HTTP.
"""

import base64
import binascii
import difflib
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drawnet import models
from drawnet.drawing import sample
from drawnet.models.sequential import StepModel
from drawnet.training import checkpoint
from drawnet.training.device import CPU, Device

Line = dict[str, Any]
Request = dict[str, Any]

MOST = 64
"""Images that a request may ask for, unless their steps exceed `VOLUME`."""
VOLUME = 32_000_000
"""Bytes of canvas that one response may stream."""
LOADED = 8
"""Maximum number of models that the demo shows."""


class Refused(Exception):
    """A request that cannot be met: one line that says why, and the HTTP status."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Exhibit:
    """A model served by the demo."""

    name: str
    network: StepModel
    binary: bool
    """Whether its pixels are 0 or 1."""
    mark: str
    """First eight hex digits of the file's SHA-256, by which a link identifies the weights."""
    header: checkpoint.Header

    @property
    def most(self) -> int:
        """Images that a request may ask for."""
        return max(2, min(MOST, VOLUME // (math.prod(self.network.shape) * self.network.steps)))

    @property
    def about(self) -> Line:
        """Metadata for clients."""
        model = self.network
        windows = model.windows(model.start(torch.zeros(1, model.classes, device=model.device)))
        run = self.header.run
        return {
            "name": self.name,
            "mark": self.mark,
            "kind": models.kind(run.model),
            "data": run.data.name,
            "examples": self.header.examples,
            "nats": self.header.valid.get("nats"),
            "shape": list(model.shape),
            "steps": model.steps,
            "classes": model.classes,
            "windows": sorted(windows),
            "binary": self.binary,
            "most": self.most,
        }


def draws(path: Path) -> bool:
    """Return whether the demo can show a model: it must read and draw in steps."""
    return isinstance(checkpoint.load_model(path, kernels="off").network, StepModel)


def exhibit(path: Path, taken: Sequence[str] = (), device: Device = CPU) -> Exhibit:
    """Load the model of a path or name, under a name not in `taken`; UserError if it is invalid."""
    file = checkpoint.located(path)
    model = checkpoint.load_model(path, device=device)
    network = sample.require_inference(model, path)
    plain = file.resolve().parent.name if file.stem == "model" else file.stem
    names = (plain if k == 1 else f"{plain}-{k}" for k in range(1, LOADED + 1))
    name = next(name for name in names if name not in taken)
    binary = getattr(model.run.model, "likelihood", "bernoulli") == "bernoulli"
    mark = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    return Exhibit(name, network, binary, mark, model.header)


# ---- fields -------------------------------------------------------------------------------------


def whole(name: str, value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise Refused(f"{name} must be an integer from {low} to {high}")
    return value


def number(name: str, value: Any, low: float, high: float) -> float:
    if type(value) not in (int, float) or not low <= value <= high:
        raise Refused(f"{name} must be a number from {low:g} to {high:g}")
    return float(value)


def raw(name: str, value: Any) -> bytes:
    """Decode a base64url string."""
    if not isinstance(value, str):
        raise Refused(f"{name} must be a string, base64url")
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Refused(f"{name} is not base64url") from None


def picture(name: str, value: Any, e: Exhibit) -> Tensor:
    """Decode (C, H, W) in [0, 1] from packed bits or bytes; 0 or 1 for a model of binary pixels."""
    content, size = raw(name, value), math.prod(e.network.shape)
    array = np.frombuffer(content, np.uint8)
    if len(content) == math.ceil(size / 8):
        x = torch.from_numpy(np.unpackbits(array, count=size)).float()
    elif len(content) == size:
        x = torch.from_numpy(array.copy()).float() / 255
    else:
        raise Refused(
            f"{name} must hold {math.ceil(size / 8)} bytes (a bit a value) or {size} (a byte a value) "
            f"for {' × '.join(map(str, e.network.shape))}, not {len(content)}"
        )
    x = x.view(e.network.shape)
    return (x >= 0.5).float() if e.binary else x


def mask(name: str, value: Any, e: Exhibit) -> Tensor:
    """Decode (H, W) bool from packed bits."""
    content, (_, height, width) = raw(name, value), e.network.shape
    if len(content) != math.ceil(height * width / 8):
        raise Refused(f"{name} must hold {math.ceil(height * width / 8)} bytes, a bit a pixel")
    bits = np.unpackbits(np.frombuffer(content, np.uint8), count=height * width)
    return torch.from_numpy(bits.astype(bool)).view(height, width)


def labels(name: str, value: Any, e: Exhibit, most: int) -> list[int]:
    """Check a list of the model's classes, which must be empty for an unconditional model."""
    if not isinstance(value, list) or len(value) > most:
        raise Refused(f"{name} must be a list of at most {most} labels")
    if value and not e.network.classes:
        raise Refused(f"{e.name} is not conditional: leave out {name}")
    return [whole(name, label, 0, e.network.classes - 1) for label in value]


SEEDS = 2**32 - 1
Check = Callable[[str, Any, Exhibit], Any]

COMMON: dict[str, tuple[Any, Check]] = {
    "model": (None, lambda name, value, e: value),
    "seed": (0, lambda name, value, e: whole(name, value, 0, SEEDS)),
}
FIELDS: dict[str, dict[str, tuple[Any, Check]]] = {
    "draw": {
        "n": (16, lambda name, value, e: whole(name, value, 1, e.most)),
        "temperature": (1.0, lambda name, value, e: number(name, value, 0, 2)),
        "labels": ([], lambda name, value, e: labels(name, value, e, MOST)),
        "rates": (False, lambda name, value, e: flag(name, value)),
        "only": (None, lambda name, value, e: None if value is None else whole(name, value, 0, 63)),
    },
    "redraw": {
        "x": (..., picture),
        "labels": ([], lambda name, value, e: labels(name, value, e, 1)),
    },
    "complete": {
        "x": (..., picture),
        "known": (..., mask),
        "n": (6, lambda name, value, e: whole(name, value, 1, min(16, e.most))),
        "rounds": (16, lambda name, value, e: whole(name, value, 1, 64)),
        "labels": ([], lambda name, value, e: labels(name, value, e, 16)),
    },
    "morph": {
        "a": (..., picture),
        "b": (..., picture),
        "n": (33, lambda name, value, e: whole(name, value, 2, e.most)),
        "labels": ([], lambda name, value, e: labels(name, value, e, 2)),
    },
}
"""Fields of each view: name -> (default, ... if it is required; its check)."""


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"{name} must be true or false")
    return value


def checked(view: str, body: Any, exhibits: Mapping[str, Exhibit]) -> tuple[Exhibit, Request]:
    """Return the requested model and the values of all fields; Refused if one is invalid."""
    if not isinstance(body, dict):
        raise Refused("the request must be a JSON object")
    fields = COMMON | FIELDS[view]
    for key in body.keys() - fields.keys():
        near = difflib.get_close_matches(key, fields, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(fields)}"
        raise Refused(f"{view} takes no {key[:40]!r}; {hint}")
    name = body.get("model")
    if not (name is None or isinstance(name, str)):
        raise Refused("model must be a string")
    if name is not None and name not in exhibits:
        raise Refused(f"no model is called {name[:40]!r}; there are: {', '.join(exhibits)}", 404)
    e = exhibits[name or next(iter(exhibits))]
    request = {}
    for key, (default, check) in fields.items():
        if key not in body and default is ...:
            raise Refused(f"{view} needs {key}")
        request[key] = check(key, body[key], e) if key in body else default
    if request.get("only") is not None and request["only"] >= request["n"]:
        raise Refused(f"only must be below n, which is {request['n']}")
    return e, request
