"""The table of an ablation study: figures over seeds, differences with intervals, and their plot.

Two or three seeds say little of one variant's spread, but those of all variants together say enough:
the spread is taken to be the same part of the bound everywhere, and pooled.

    s² = Σ_v Σ_k (b_vk / b̄_v - 1)² / f      f = Σ_v (n_v - 1)         b_vk  bound of variant v, seed k
    b̄_v - b̄_0 ± t_f s √(b̄_v² / n_v + b̄_0² / n_0)                      n_v   its seeds; 0: the baseline
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from drawnet import ablation
from drawnet.ablation.svg import END, MIDDLE, dot, line, picture, text
from drawnet.training.checkpoint import write_text


@dataclass(frozen=True)
class Row:
    """A variant over its seeds; means, in nats an image unless named otherwise."""

    variant: str
    what: str
    seeds: list[int]
    bounds: list[float]
    """Of every seed."""
    bound: float
    spread: float | None
    """Standard deviation of the bound over the seeds."""
    difference: float | None
    """Bound less the baseline's."""
    interval: float | None
    """Half the length of its 95 % interval."""
    rate: float
    distortion: float
    claimed: float | None
    """What a port with this mistake would report as its bound."""
    parameters: int
    images_per_second: float
    """Of one core."""
    examples: float
    cpu_minutes: float
    """Of training, a run."""


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def deviation(values: Sequence[float]) -> float | None:
    """The sample's standard deviation; None for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def student(freedom: int, level: float = 0.95) -> float:
    """t with P(|T| < t) = level under Student's distribution, by bisection.

    With u = √f tan φ the density becomes cos^(f-1) φ, on a bounded interval.
    """
    angle = np.linspace(0, math.pi / 2, 20_001)
    density = np.cos(angle) ** (freedom - 1)
    mass = np.concatenate(([0.0], np.cumsum((density[1:] + density[:-1]) / 2)))
    return math.sqrt(freedom) * math.tan(float(np.interp(level, mass / mass[-1], angle)))


def pooled(groups: Iterable[Sequence[float]]) -> tuple[float | None, int]:
    """The spread s over seeds as a part of the mean, and its degrees of freedom f; None where f = 0."""
    squares, freedom = 0.0, 0
    for values in groups:
        squares += sum((v / mean(values) - 1) ** 2 for v in values)
        freedom += len(values) - 1
    return math.sqrt(squares / freedom) if freedom else None, freedom


def rows(results: Sequence[dict[str, Any]]) -> list[Row]:
    """The results of runs as rows, a variant each, in the order in which variants first come."""
    titles, by_variant = ablation.titles(), dict[str, list[dict[str, Any]]]()
    for result in results:
        by_variant.setdefault(result["variant"], []).append(result)
    found = [row(name, titles.get(name, ""), runs) for name, runs in by_variant.items()]
    base = next((r for r in found if r.variant == "baseline"), None)
    spread, freedom = pooled(r.bounds for r in found)
    if base is None:
        return found
    return [r if r is base else compared(r, base, spread, freedom) for r in found]


def compared(r: Row, base: Row, spread: float | None, freedom: int) -> Row:
    """The row with its difference to the baseline."""
    error = math.hypot(*(k.bound / math.sqrt(len(k.seeds)) for k in (r, base)))
    interval = None if spread is None else student(freedom) * spread * error
    return replace(r, difference=r.bound - base.bound, interval=interval)


def row(name: str, what: str, runs: Sequence[dict[str, Any]]) -> Row:
    """One variant's, not compared yet."""

    def measured(key: str) -> list[float]:
        return [r["measures"][key]["mean"] for r in runs]

    bounds = measured("nats")
    return Row(
        variant=name,
        what=what,
        seeds=[r["seed"] for r in runs],
        bounds=bounds,
        bound=mean(bounds),
        spread=deviation(bounds),
        difference=None,
        interval=None,
        rate=mean(measured("rate")),
        distortion=mean(measured("distortion")),
        claimed=mean(measured("claimed")) if "claimed" in runs[0]["measures"] else None,
        parameters=runs[0]["parameters"],
        images_per_second=mean([r["images_per_second"] for r in runs]),
        examples=mean([r["examples"] for r in runs]),
        cpu_minutes=mean([r["cpu_seconds"] for r in runs]) / 60,
    )


def write(
    folder: Path,
    split: str,
    results: Sequence[dict[str, Any]],
    left: dict[str, str],
    failed: dict[str, str],
) -> None:
    """table.md, table.json and table.svg; nothing if no run is finished.

    left, failed: why variants were left out, and runs failed, by name.
    """
    if not results:
        return
    found = rows(results)
    title = f"{results[0]['dataset']}, {split}: {results[0]['images']} images"
    notes = [f"{name} is left out: {why}." for name, why in left.items()]
    notes += [f"{name} failed: {why}." for name, why in failed.items()]
    values = {"data": title, "rows": [asdict(r) for r in found], "left": left, "failed": failed}
    write_text(folder / "table.md", markdown(title, found, notes))
    write_text(folder / "table.json", json.dumps(values, indent=1) + "\n")
    write_text(folder / "table.svg", plot(title, found))


# ---- Markdown -----------------------------------------------------------------------------------

HEAD = (
    "| variant | bound, nats | to the baseline | claimed | rate | distortion | parameters "
    "| images/s | examples | seeds |\n|---|---|---|---|---|---|---|---|---|---|\n"
)


def markdown(title: str, found: Sequence[Row], notes: Sequence[str]) -> str:
    lines = [
        f"| `{r.variant}` | {plus_minus(r.bound, r.spread)} | "
        f"{'' if r.difference is None else plus_minus(r.difference, r.interval, '+')} | "
        f"{'' if r.claimed is None else f'{r.claimed:.2f}'} | {r.rate:.2f} | {r.distortion:.2f} | "
        f"{r.parameters:,} | {r.images_per_second:.0f} | {r.examples:,.0f} | {len(r.seeds)} |\n"
        for r in found
    ]
    named = "".join(f"- `{r.variant}`: {r.what}\n" for r in found)
    left = "".join(f"- {note}\n" for note in notes)
    picture = "\n![Differences to the baseline](table.svg)\n"
    return f"{title}\n\n{HEAD}{''.join(lines)}{legend(found)}{picture}\n{named}{left and chr(10) + left}"


def legend(found: Sequence[Row]) -> str:
    """What the columns hold."""
    spread, freedom = pooled(r.bounds for r in found)
    shared = (
        ""
        if spread is None
        else (
            f" of a spread over seeds of {spread:.1%} of the bound, pooled over all variants ({freedom}"
            " degrees of freedom)"
        )
    )
    return (
        "\nBound: mean ± standard deviation over the seeds.  To the baseline: difference of the means ±"
        f" half of its 95 % interval{shared}; above 0 is worse.  Claimed:"
        " what a port with this mistake would report.  Images a second of training on one core.\n"
    )


def plus_minus(value: float, error: float | None, sign: str = "") -> str:
    return f"{value:{sign}.2f}" + ("" if error is None else f" ± {error:.2f}")


# ---- the plot -----------------------------------------------------------------------------------

WIDTH, LABELS, FIGURES, LINE, TOP = 860, 170, 150, 24, 58
TICKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000]
BETTER, WORSE, UNSURE, CLAIM = "#1b7f5c", "#b03a2e", "#5d6d7e", "#c77c11"


def plot(title: str, found: Sequence[Row]) -> str:
    """Differences to the baseline as an SVG picture: best first, a dot a seed, mean and interval.

    The axis is asinh(nats), about linear within a nat and logarithmic beyond.  A diamond is what
    would be claimed.  Green is better than the baseline, red worse, grey neither for sure.
    """
    base = next((r for r in found if r.variant == "baseline"), None)
    shown = sorted((r for r in found if r.difference is not None), key=lambda r: r.bound)
    ends = [0.0, *(v for r in shown for v in extent(r))]
    low, high = math.asinh(min(ends)) - 0.3, math.asinh(max(ends)) + 0.3

    def x(nats: float) -> float:
        return LABELS + (math.asinh(nats) - low) / (high - low) * (WIDTH - LABELS - FIGURES)

    bottom = TOP + LINE * len(shown)
    parts = [
        text(
            16, 26, "Difference to the baseline's bound, nats", "font-weight='600' font-size='15'"
        ),
        text(16, 44, f"{title}; baseline {plus_minus(base.bound, base.spread)}" if base else title),
    ]
    ticks = [t for k in TICKS for t in (-k, k) if low < math.asinh(t) < high]
    for tick in spaced(sorted([0, *ticks]), x):
        colour = "#333" if tick == 0 else "#e3e6e8"
        parts.append(line(x(tick), TOP, x(tick), bottom, colour, 1))
        parts.append(text(x(tick), bottom + 18, f"{tick:+d}" if tick else "0", MIDDLE))
    parts.append(text(x(0) - 10, bottom + 38, "← better", "text-anchor='end' fill='#777'"))
    parts.append(text(x(0) + 10, bottom + 38, "worse →", "fill='#777'"))
    for k, r in enumerate(shown):
        parts += drawn(r, TOP + LINE * (k + 0.5), x)
    return picture(WIDTH, bottom + 50, parts)


def extent(r: Row) -> list[float]:
    """The differences that a row shows."""
    assert r.difference is not None
    half = r.interval or 0.0
    return [*seedwise(r), r.difference - half, r.difference + half, *claim(r)]


def seedwise(r: Row) -> list[float]:
    """Every seed's bound less the baseline's mean."""
    assert r.difference is not None
    return [b - r.bound + r.difference for b in r.bounds]


def claim(r: Row) -> list[float]:
    """The claimed bound less the baseline's, if there is one."""
    assert r.difference is not None
    return [] if r.claimed is None else [r.claimed - r.bound + r.difference]


def spaced(ticks: Sequence[int], x: Any, room: float = 34) -> list[int]:
    """Those ticks that have room beside the ones nearer to 0."""
    kept: list[int] = []
    for tick in sorted(ticks, key=abs):
        if all(abs(x(tick) - x(other)) >= room for other in kept):
            kept.append(tick)
    return kept


def drawn(r: Row, y: float, x: Any) -> list[str]:
    """A row of the plot at the height y."""
    assert r.difference is not None
    d, half = r.difference, r.interval
    sure = half is not None and abs(d) > half
    colour = (BETTER if d < 0 else WORSE) if sure else UNSURE
    parts = [text(LABELS - 14, y + 4, r.variant, END)]
    parts.append(text(WIDTH - 16, y + 4, plus_minus(d, half, "+"), f"{END} fill='{colour}'"))
    if half is not None:
        parts.append(line(x(d - half), y, x(d + half), y, colour, 2))
    parts += [dot(x(v), y, 2.6, "white", colour) for v in seedwise(r)]
    for v in claim(r):
        corners = (0, -5), (5, 0), (0, 5), (-5, 0)
        points = " ".join(f"{x(v) + right:.1f},{y + down:.1f}" for right, down in corners)
        parts.append(
            f'<polygon points="{points}" fill="white" stroke="{CLAIM}" stroke-width="1.6"/>'
        )
    return [*parts, dot(x(d), y, 4.5, colour, "white")]
