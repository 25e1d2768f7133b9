"""What the demo's page and its users ask of a model: requests checked, and the steps they get.

A request is a JSON object; its answer is a row of lines (JSON objects, one a step) or a picture.
docs/api.md describes them.  Nothing here knows of HTTP: `serve` does.
"""

import base64
import binascii
import difflib
import hashlib
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drawnet import checkpoint, drawing, figures, pictures
from drawnet.figures import Film
from drawnet.step import StepModel

Line = dict[str, Any]
Request = dict[str, Any]

MOST = 64
"""Images a request may ask for, unless their steps make more than `VOLUME`."""
VOLUME = 32_000_000
"""Bytes of canvas that one answer may stream."""
SIDE = 640
"""Screen pixels of a picture or film, unless the images at their own size are wider."""
LOADED = 8
"""Models that the demo shows at most."""


class Refused(Exception):
    """A request that cannot be met as it is: one line that says why, and the HTTP status."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Exhibit:
    """A model on show."""

    name: str
    network: StepModel
    binary: bool
    """Whether its pixels are 0 or 1."""
    mark: str
    """Eight digits of the file's SHA-256, by which a link knows the weights again."""
    header: Mapping[str, Any]

    @property
    def most(self) -> int:
        """Images that a request may ask for."""
        return max(2, min(MOST, VOLUME // (math.prod(self.network.shape) * self.network.steps)))

    @property
    def about(self) -> Line:
        """What a client needs to know of it."""
        model = self.network
        windows = model.windows(model.start(torch.zeros(1, model.classes)))
        run = self.header["run"]
        return {
            "name": self.name,
            "mark": self.mark,
            "kind": run["model"]["kind"],
            "data": run["data"]["name"],
            "examples": self.header.get("examples"),
            "nats": self.header.get("valid_nats"),
            "shape": list(model.shape),
            "steps": model.steps,
            "classes": model.classes,
            "windows": sorted(windows),
            "binary": self.binary,
            "most": self.most,
        }


def draws(path: Path) -> bool:
    """Whether a model can be on show: it reads and draws in steps."""
    return isinstance(checkpoint.load_model(path).network, StepModel)


def exhibit(path: Path, taken: Sequence[str] = ()) -> Exhibit:
    """The model at a path, or of a name, under a name that is not taken; UserError if unsound."""
    file = checkpoint.located(path)
    model = checkpoint.load_model(path)
    network = drawing.reader(model, path)
    plain = file.resolve().parent.name if file.stem == "model" else file.stem
    names = (plain if k == 1 else f"{plain}-{k}" for k in range(1, LOADED + 1))
    name = next(name for name in names if name not in taken)
    binary = getattr(model.run.model, "likelihood", "bernoulli") == "bernoulli"
    mark = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    return Exhibit(name, network, binary, mark, model.header)


# ---- requests -----------------------------------------------------------------------------------


def whole(name: str, value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise Refused(f"{name} must be a whole number from {low} to {high}")
    return value


def number(name: str, value: Any, low: float, high: float) -> float:
    if type(value) not in (int, float) or not low <= value <= high:
        raise Refused(f"{name} must be a number from {low:g} to {high:g}")
    return float(value)


def raw(name: str, value: Any) -> bytes:
    """The bytes of a base64url string."""
    if not isinstance(value, str):
        raise Refused(f"{name} must be a string, base64url")
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Refused(f"{name} is not base64url") from None


def picture(name: str, value: Any, e: Exhibit) -> Tensor:
    """(C, H, W) in [0, 1] from packed bits or from bytes; 0 or 1 where the model's pixels are."""
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
    """(H, W) bool from packed bits."""
    content, (_, height, width) = raw(name, value), e.network.shape
    if len(content) != math.ceil(height * width / 8):
        raise Refused(f"{name} must hold {math.ceil(height * width / 8)} bytes, a bit a pixel")
    bits = np.unpackbits(np.frombuffer(content, np.uint8), count=height * width)
    return torch.from_numpy(bits.astype(bool)).view(height, width)


def labels(name: str, value: Any, e: Exhibit, most: int) -> list[int]:
    """Classes that the model knows; none for a model that is told none."""
    if not isinstance(value, list) or len(value) > most:
        raise Refused(f"{name} must be a list of at most {most} labels")
    if value and not e.network.classes:
        raise Refused(f"{e.name} is told no labels: leave out {name}")
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
"""What each view takes: name -> (value if left out, ... where it may not be; its check)."""


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"{name} must be true or false")
    return value


def checked(view: str, body: Any, exhibits: Mapping[str, Exhibit]) -> tuple[Exhibit, Request]:
    """The model that a request is to and its values, all of them; Refused if one is wrong."""
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


# ---- answers ------------------------------------------------------------------------------------


@torch.no_grad()
def lines(view: str, e: Exhibit, request: Request) -> Iterator[Line]:
    """What a request gets: a line that says what is coming, one a step, one at the end."""
    start, steps = STREAMS[view](e, request)
    yield {"view": view, "model": e.name, "mark": e.mark, "shape": list(e.network.shape)} | start
    yield from steps
    yield {"end": True}


def levels(means: Tensor) -> str:
    """Means (n, C, H, W) in [0, 1] as bytes, base64: 255 is white."""
    return base64.b64encode((means * 255).round().byte().numpy().tobytes()).decode()


def numbers(values: Tensor) -> Any:
    """Lists of numbers of four digits after the point; what is not finite is null."""
    rounded = values.double().mul(1e4).round().div(1e4)
    return [numbers(v) if v.dim() else v.item() if v.isfinite() else None for v in rounded]


def moments(
    model: StepModel, states: Iterator[Any], shown: Callable[[Any], Tensor | None] = lambda s: None
) -> Iterator[Line]:
    """A line for the start and one a step: canvas, windows that were used, rates if `shown`."""
    for t, state in enumerate(states, 1):
        if t == 1:
            yield {"step": 0, "canvas": levels(figures.mean(model, model.start(state.y)))}
        line: Line = {"step": t, "canvas": levels(figures.mean(model, state))}
        used = {name: p for name, p in model.windows(state).items() if p.any()}
        line["windows"] = {k: numbers(figures.geometry(model, k, p)) for k, p in used.items()}
        if (rate := shown(state)) is not None:
            line["rate"] = numbers(rate)
        yield line


def draw(e: Exhibit, r: Request) -> tuple[Line, Iterator[Line]]:
    """Samples from the prior; `rates`: also a last line with every step's KL of each image."""
    model, told = e.network, r["labels"] or list(range(e.network.classes))
    row = [told[k % len(told)] for k in range(r["n"])] if told else []

    def steps() -> Iterator[Line]:
        last: list[Any] = []

        def states() -> Iterator[Any]:
            for state in drawing.sampling(
                model,
                range(r["n"]),
                labels=r["labels"],
                seed=r["seed"],
                temperature=r["temperature"],
            ):
                last[:] = [state]
                yield state

        yield from moments(model, states())
        if r["rates"]:
            yield {"rates": numbers(drawing.rates(model, last[0], range(r["n"]), seed=r["seed"]))}

    return {"steps": model.steps, "n": r["n"], "labels": row}, steps()


def read_as(e: Exhibit, x: Tensor, given: list[int], seed: int) -> tuple[list[int], Line]:
    """Labels of pictures x (n, C, H, W): those given, one for all or for each, else as read."""
    if not e.network.classes:
        return [], {"labels": []}
    if given:
        told = given if len(given) == len(x) else given * len(x)
        return told, {"labels": told}
    p, label = drawing.reads_as(e.network, x, seed=seed).max(1)
    return label.tolist(), {"labels": label.tolist(), "read_as": numbers(p)}


def redraw(e: Exhibit, r: Request) -> tuple[Line, Iterator[Line]]:
    """A picture read and drawn again."""
    model, x = e.network, r["x"][None]
    told, said = read_as(e, x, r["labels"], r["seed"])
    rates: list[Tensor] = []

    def states() -> Iterator[Any]:
        for moment in drawing.redrawing(model, x, range(1), labels=told, seed=r["seed"]):
            rates[:] = [moment.rate]
            yield moment.state

    return {"steps": model.steps, "n": 1} | said, moments(model, states(), lambda _: rates[0])


def complete(e: Exhibit, r: Request) -> tuple[Line, Iterator[Line]]:
    """A picture of which a part is missing, filled in n ways, round by round."""
    rounds = enumerate(completions(e, r))
    start = {"steps": r["rounds"], "n": r["n"], "labels": r["labels"]}
    return start, ({"step": k, "canvas": levels(seen)} for k, seen in rounds)


def completions(e: Exhibit, r: Request) -> Iterator[Tensor]:
    return drawing.completing(
        e.network, r["x"], r["known"], r["n"],
        labels=r["labels"], seed=r["seed"], rounds=r["rounds"],
    )  # fmt: skip


def morph(e: Exhibit, r: Request) -> tuple[Line, Iterator[Line]]:
    """n pictures on the way from one to another, all drawn at once."""
    states, said = morphs(e, r)
    return {"steps": e.network.steps, "n": r["n"]} | said, moments(e.network, states)


def morphs(e: Exhibit, r: Request) -> tuple[Iterator[Any], Line]:
    pair = torch.stack((r["a"], r["b"]))
    told, said = read_as(e, pair, r["labels"], r["seed"])
    return drawing.morphing(e.network, pair, r["n"], labels=told, seed=r["seed"]), said


STREAMS: dict[str, Callable[[Exhibit, Request], tuple[Line, Iterator[Line]]]] = {
    "draw": draw,
    "redraw": redraw,
    "complete": complete,
    "morph": morph,
}


# ---- pictures -----------------------------------------------------------------------------------


def film(view: str, e: Exhibit, r: Request) -> Film:
    """What a view shows, whole; a morph's steps are its pictures one after another."""
    if view == "draw":
        n, seed, warmth = r["n"], r["seed"], r["temperature"]
        whole = drawing.sample_film(
            e.network, n, labels=r["labels"], seed=seed, temperature=warmth, batch=n
        )
        one = slice(None) if r["only"] is None else slice(r["only"], r["only"] + 1)
        return Film(whole.frames[:, one], {k: w[:, one] for k, w in whole.windows.items()})
    if view == "redraw":
        told, _ = read_as(e, r["x"][None], r["labels"], r["seed"])
        return drawing.redraw_film(e.network, r["x"][None], labels=told, seed=r["seed"])
    if view == "complete":
        return Film(torch.stack(list(completions(e, r))), {})
    *_, state = morphs(e, r)[0]
    return Film(figures.mean(e.network, state)[:, None], {})


@torch.no_grad()
def drawn(view: str, e: Exhibit, r: Request, suffix: str) -> bytes:
    """A view as a .png, finished, or as a .gif, step by step."""
    seen = film(view, e, r)
    n, (_, height, width) = seen.frames.shape[1], e.network.shape
    columns = math.ceil(math.sqrt(n))
    scale = max(1, SIDE // (columns * max(height, width) * (2 if view == "redraw" else 1)))
    if suffix == ".png":
        return still(view, seen, r, columns, scale)
    steps = len(seen.frames) - 1
    fps = min(16.0, max(3.0, steps / 5))
    if view == "redraw":
        frames = figures.comparison(r["x"][None], seen, columns, scale)
    elif view == "morph":
        frames = [figures.grid(images, 1, scale) for images in seen.frames]
        frames += frames[::-1]
    else:
        frames = figures.drawing(seen, columns, scale)
    return pictures.animation(frames, "film.gif", fps=fps)


def still(view: str, seen: Film, r: Request, columns: int, scale: int) -> bytes:
    if view == "redraw":
        image = figures.comparison(r["x"][None], seen, columns, scale)[-1]
    elif view == "morph":
        image = figures.grid(seen.frames[:, 0], scale=max(1, scale // 6))
    else:
        image = figures.grid(seen.images, columns, scale)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
