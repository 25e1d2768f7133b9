"""Compute the responses of the demo: lines, one JSON object per step, or a picture.

Requests have been validated by `requests`; docs/http-api.md describes both.
"""

import base64
import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from drawnet.demo.requests import Exhibit, Line, Request
from drawnet.drawing import figures, files, sample
from drawnet.drawing.figures import Trajectory
from drawnet.models import latent
from drawnet.models.sequential import StepModel

SIDE = 640
"""Screen pixels of a picture or animation, unless the images at their own size are wider."""


@torch.no_grad()
def lines(view: str, e: Exhibit, request: Request) -> Iterator[Line]:
    """Yield the response to a request: a line that describes it, one per step, one at the end."""
    start, steps = STREAMS[view](e, request)
    yield {"view": view, "model": e.name, "mark": e.mark, "shape": list(e.network.shape)} | start
    yield from steps
    yield {"end": True}


def levels(means: Tensor) -> str:
    """Encode means (n, C, H, W) in [0, 1] as base64 bytes: 255 is white."""
    return base64.b64encode((means * 255).round().byte().numpy().tobytes()).decode()


def numbers(values: Tensor) -> Any:
    """Return nested lists of numbers with four decimals; values that are not finite become null."""
    rounded = values.cpu().double().mul(1e4).round().div(1e4)
    return [numbers(v) if v.dim() else v.item() if v.isfinite() else None for v in rounded]


def moments(
    model: StepModel, states: Iterator[Any], rates: Callable[[Any], Tensor | None] = lambda s: None
) -> Iterator[Line]:
    """Yield a line for the start and one per step: canvas, windows in use, and `rates` if not None."""
    for t, state in enumerate(states, 1):
        if t == 1:
            yield {"step": 0, "canvas": levels(figures.mean(model, model.start(state.y)))}
        line: Line = {"step": t, "canvas": levels(figures.mean(model, state))}
        used = {name: p.cpu() for name, p in model.windows(state).items() if p.any()}
        line["windows"] = {k: numbers(figures.geometry(model, k, p)) for k, p in used.items()}
        if (rate := rates(state)) is not None:
            line["rate"] = numbers(rate)
        yield line


def draw(e: Exhibit, r: Request) -> tuple[Line, Iterator[Line]]:
    """Draw samples from the prior; `rates`: add a last line with every step's KL of each image."""
    model, labels = e.network, r["labels"] or list(range(e.network.classes))
    each = [labels[k % len(labels)] for k in range(r["n"])] if labels else []

    def steps() -> Iterator[Line]:
        last: list[Any] = []

        def states() -> Iterator[Any]:
            for state in latent.sampling(
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
            yield {"rates": numbers(sample.rates(model, last[0], range(r["n"]), seed=r["seed"]))}

    return {"steps": model.steps, "n": r["n"], "labels": each}, steps()


def read_as(e: Exhibit, x: Tensor, asked: list[int], seed: int) -> tuple[list[int], Line]:
    """Return labels of pictures x (n, C, H, W): the requested ones, one or n, else the likeliest."""
    if not e.network.classes:
        return [], {"labels": []}
    if asked:
        labels = asked if len(asked) == len(x) else asked * len(x)
        return labels, {"labels": labels}
    p, label = sample.reads_as(e.network, x, seed=seed).max(1)
    return label.tolist(), {"labels": label.tolist(), "read_as": numbers(p)}


def redraw(e: Exhibit, r: Request) -> tuple[Line, Iterator[Line]]:
    """Read a picture and draw it again."""
    model, x = e.network, r["x"][None]
    labels, reading = read_as(e, x, r["labels"], r["seed"])
    rates: list[Tensor] = []

    def states() -> Iterator[Any]:
        for moment in sample.redrawing(model, x, range(1), labels=labels, seed=r["seed"]):
            rates[:] = [moment.rate]
            yield moment.state

    return {"steps": model.steps, "n": 1} | reading, moments(model, states(), lambda _: rates[0])


def complete(e: Exhibit, r: Request) -> tuple[Line, Iterator[Line]]:
    """Fill in the missing part of a picture in n ways, round by round."""
    rounds = enumerate(completions(e, r))
    start = {"steps": r["rounds"], "n": r["n"], "labels": r["labels"]}
    return start, ({"step": k, "canvas": levels(images)} for k, images in rounds)


def completions(e: Exhibit, r: Request) -> Iterator[Tensor]:
    return latent.completing(
        e.network, r["x"], r["known"], r["n"],
        labels=r["labels"], seed=r["seed"], rounds=r["rounds"],
    )  # fmt: skip


def morph(e: Exhibit, r: Request) -> tuple[Line, Iterator[Line]]:
    """Interpolate between two pictures, n in all, drawn at the same time."""
    states, reading = morphs(e, r)
    return {"steps": e.network.steps, "n": r["n"]} | reading, moments(e.network, states)


def morphs(e: Exhibit, r: Request) -> tuple[Iterator[Any], Line]:
    pair = torch.stack((r["a"], r["b"]))
    labels, reading = read_as(e, pair, r["labels"], r["seed"])
    return latent.morphing(e.network, pair, r["n"], labels=labels, seed=r["seed"]), reading


STREAMS: dict[str, Callable[[Exhibit, Request], tuple[Line, Iterator[Line]]]] = {
    "draw": draw,
    "redraw": redraw,
    "complete": complete,
    "morph": morph,
}


# ---- pictures -----------------------------------------------------------------------------------


def trajectory(view: str, e: Exhibit, r: Request) -> Trajectory:
    """Return the trajectory that a view shows; the steps of a morph are its pictures in order."""
    if view == "draw":
        n, seed, temperature = r["n"], r["seed"], r["temperature"]
        whole = sample.sample_trajectory(
            e.network, n, labels=r["labels"], seed=seed, temperature=temperature, batch=n
        )
        one = slice(None) if r["only"] is None else slice(r["only"], r["only"] + 1)
        return Trajectory(whole.frames[:, one], {k: w[:, one] for k, w in whole.windows.items()})
    if view == "redraw":
        labels, _ = read_as(e, r["x"][None], r["labels"], r["seed"])
        return sample.redraw_trajectory(e.network, r["x"][None], labels=labels, seed=r["seed"])
    if view == "complete":
        return Trajectory(torch.stack(list(completions(e, r))), {})
    *_, state = morphs(e, r)[0]
    return Trajectory(figures.mean(e.network, state)[:, None], {})


@torch.no_grad()
def drawn(view: str, e: Exhibit, r: Request, suffix: str) -> bytes:
    """Return a view as a .png of the final picture, or as a .gif of all steps."""
    shown = trajectory(view, e, r)
    n, (_, height, width) = shown.frames.shape[1], e.network.shape
    columns = math.ceil(math.sqrt(n))
    scale = max(1, SIDE // (columns * max(height, width) * (2 if view == "redraw" else 1)))
    if suffix == ".png":
        return still(view, shown, r, columns, scale)
    steps = len(shown.frames) - 1
    fps = min(16.0, max(3.0, steps / 5))
    if view == "redraw":
        frames = figures.comparison(r["x"][None], shown, columns, scale)
    elif view == "morph":
        frames = [figures.grid(images, 1, scale) for images in shown.frames]
        frames += frames[::-1]
    else:
        frames = figures.drawing(shown, columns, scale)
    return files.animation(frames, "animation.gif", fps=fps)


def still(view: str, shown: Trajectory, r: Request, columns: int, scale: int) -> bytes:
    if view == "redraw":
        image = figures.comparison(r["x"][None], shown, columns, scale)[-1]
    elif view == "morph":
        image = figures.grid(shown.frames[:, 0], scale=max(1, scale // 6))
    else:
        image = figures.grid(shown.images, columns, scale)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
