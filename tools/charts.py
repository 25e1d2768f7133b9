"""The charts of a run record: its learning curve, and what it says at every step."""

import math
from collections.abc import Callable
from typing import Any

from drawnet.ablation.svg import END, MIDDLE, bar, line, path, picture, text

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 34, 40
INK, GRID = "#1b5f8c", "#e3e6e8"

Place = Callable[[float], float]


def of(record: dict[str, Any]) -> str:
    """An SVG picture of a record, one panel or two side by side; "" where there is nothing to show."""
    panels = []
    if curve := [(minutes, value) for _, minutes, value in record["curve"]]:
        panels.append(learning(curve))
    steps = next((k for e in record["evaluations"] if len(k := e.get("kl_per_step") or []) > 1), [])
    if steps:
        panels.append(rates(steps))
    shifted = [
        f'<g transform="translate({k * WIDTH} 0)">' + "\n".join(panel) + "</g>"
        for k, panel in enumerate(panels)
    ]
    return picture(WIDTH * len(panels), HEIGHT, shifted) if panels else ""


def learning(curve: list[tuple[float, float]]) -> list[str]:
    """(minutes, value) of every validation, over the logarithm of the minutes."""
    minutes, values = zip(*curve, strict=True)
    first, last = math.log(max(minutes[0], 0.1)), math.log(max(minutes[-1], 0.2))
    y, parts = _upright("validation", min(values), max(values))

    def x(m: float) -> float:
        return LEFT + (math.log(max(m, 0.1)) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    if last <= first:  # a single validation: no curve
        return parts
    for tick in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500):
        if first <= math.log(tick) <= last:
            parts.append(text(x(tick), HEIGHT - BOTTOM + 16, f"{tick:g}", MIDDLE))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "processor minutes", MIDDLE))
    return [*parts, path([(x(m), y(v)) for m, v in curve], INK, 2)]


def rates(steps: list[float]) -> list[str]:
    """The KL of every step, nats, from the first to the last."""
    y, parts = _upright("rate of each step, nats", 0.0, max(steps))
    room = (WIDTH - LEFT - RIGHT) / len(steps)
    for t, nats in enumerate(steps):
        parts.append(bar(LEFT + (t + 0.1) * room, y(nats), 0.8 * room, y(0.0) - y(nats), INK))
        if t + 1 in (1, len(steps) // 2, len(steps)):
            parts.append(text(LEFT + (t + 0.5) * room, HEIGHT - BOTTOM + 16, str(t + 1), MIDDLE))
    return [*parts, text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "step t", MIDDLE)]


def _upright(title: str, low: float, high: float) -> tuple[Place, list[str]]:
    """The vertical axis from low to high: where a value stands, and its title, lines and numbers."""
    high = high if high > low else low + 1.0
    step = 10 ** math.floor(math.log10(high - low))
    step *= next(k for k in (0.2, 0.5, 1.0, 2.0) if (high - low) / (k * step) <= 6)

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [text(LEFT, 20, title, "font-weight='600'")]
    for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        parts.append(line(LEFT, y(k * step), WIDTH - RIGHT, y(k * step), GRID, 1))
        parts.append(text(LEFT - 8, y(k * step) + 4, f"{k * step:.5g}", END))
    return y, parts
