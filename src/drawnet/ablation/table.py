"""The table of an ablation study: figures over seeds, differences with intervals, and their plot.

Two or three seeds say little of one variant's spread, but those of all variants together say enough:
the spread is taken to be the same part of the bound everywhere, and pooled.

    s² = Σ_v Σ_k (b_vk / b̄_v - 1)² / f      f = Σ_v (n_v - 1)         b_vk  bound of variant v, seed k
    b̄_v - b̄_0 ± t_f s √(b̄_v² / n_v + b̄_0² / n_0)                      n_v   its seeds; 0: the baseline
"""

import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from drawnet import ablation
from drawnet.errors import UserError, schema, write_text
from drawnet.errors.schema import NonNegative, NonNegativeInt, Positive, PositiveInt
from drawnet.evaluation.likelihood import Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXTRA = {"scipy": "intervals", "matplotlib": "chart"}
"""What the packages of the extra `plots` are for."""


MEASURED = {"nats", "rate", "distortion"}


@dataclass(frozen=True)
class Result:
    """What a finished run of a study has measured: SPLIT.json."""

    dataset: str
    split: str
    images: PositiveInt
    measures: Annotated[
        dict[str, Measure],
        schema.rule(lambda found: found.keys() >= MEASURED, f"with {', '.join(sorted(MEASURED))}"),
    ]
    """By name, over the images; `claimed`: what a port with a mistake would report as its bound."""
    examples: PositiveInt
    best_at: NonNegativeInt
    """Training examples before the weights that were measured."""
    skipped: NonNegativeInt
    parameters: PositiveInt
    cpu_seconds: NonNegative
    images_per_second: Positive
    variant: str = ""
    seed: NonNegativeInt = 0


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


def student(freedom: int, level: float = 0.95) -> float | None:
    """t with P(|T| < t) = level under Student's distribution; None for no freedom, or without scipy."""
    if not freedom or find_spec("scipy") is None:
        return None
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, freedom))


def pooled(groups: Iterable[Sequence[float]]) -> tuple[float | None, int]:
    """The spread s over seeds as a part of the mean, and its degrees of freedom f; None where f = 0."""
    squares, freedom = 0.0, 0
    for values in groups:
        squares += sum((v / mean(values) - 1) ** 2 for v in values)
        freedom += len(values) - 1
    return math.sqrt(squares / freedom) if freedom else None, freedom


def rows(results: Sequence[Result]) -> list[Row]:
    """The results of runs as rows, a variant each, in the order in which variants first come."""
    titles, by_variant = ablation.titles(), dict[str, list[Result]]()
    for result in results:
        by_variant.setdefault(result.variant, []).append(result)
    found = [row(name, titles.get(name, ""), runs) for name, runs in by_variant.items()]
    base = next((r for r in found if r.variant == "baseline"), None)
    spread, freedom = pooled(r.bounds for r in found)
    if base is None:
        return found
    return [r if r is base else compared(r, base, spread, freedom) for r in found]


def compared(r: Row, base: Row, spread: float | None, freedom: int) -> Row:
    """The row with its difference to the baseline."""
    error = math.hypot(*(k.bound / math.sqrt(len(k.seeds)) for k in (r, base)))
    quantile = student(freedom)
    interval = None if spread is None or quantile is None else quantile * spread * error
    return replace(r, difference=r.bound - base.bound, interval=interval)


def row(name: str, what: str, runs: Sequence[Result]) -> Row:
    """One variant's, not compared yet."""

    def measured(key: str) -> list[float]:
        return [r.measures[key].mean for r in runs]

    bounds = measured("nats")
    return Row(
        variant=name,
        what=what,
        seeds=[r.seed for r in runs],
        bounds=bounds,
        bound=mean(bounds),
        spread=deviation(bounds),
        difference=None,
        interval=None,
        rate=mean(measured("rate")),
        distortion=mean(measured("distortion")),
        claimed=mean(measured("claimed")) if all("claimed" in r.measures for r in runs) else None,
        parameters=runs[0].parameters,
        images_per_second=mean([r.images_per_second for r in runs]),
        examples=mean([r.examples for r in runs]),
        cpu_minutes=mean([r.cpu_seconds for r in runs]) / 60,
    )


def write(
    folder: Path,
    split: str,
    results: Sequence[Result],
    left: dict[str, str],
    failed: dict[str, str],
) -> None:
    """Write table.md, table.json and table.svg; nothing if no run is finished.

    left, failed: why variants were left out, and runs failed, by name.
    Without the extra `plots` there are no intervals and no chart, and a line says so.
    """
    if not results:
        return
    found = rows(results)
    title = f"{results[0].dataset}, {split}: {results[0].images} images"
    notes = [f"{name} is left out: {why}." for name, why in left.items()]
    notes += [f"{name} failed: {why}." for name, why in failed.items()]
    missing = [what for package, what in EXTRA.items() if find_spec(package) is None]
    if missing:
        notes.append(
            f"No {' and no '.join(missing)}: pip install 'drawnet[plots]', then run again."
        )
        print(notes[-1])
    chart = "chart" not in missing
    values = {"data": title, "rows": [asdict(r) for r in found], "left": left, "failed": failed}
    write_text(folder / "table.md", markdown(title, found, notes, chart))
    write_text(folder / "table.json", json.dumps(values, indent=1) + "\n")
    if chart:
        write_text(folder / "table.svg", plot(title, found))
    else:  # one of an earlier table
        (folder / "table.svg").unlink(missing_ok=True)


# ---- Markdown -----------------------------------------------------------------------------------

HEAD = (
    "| variant | bound, nats | to the baseline | claimed | rate | distortion | parameters "
    "| images/s | examples | seeds |\n|---|---|---|---|---|---|---|---|---|---|\n"
)


def markdown(
    title: str, found: Sequence[Row], notes: Sequence[str] = (), chart: bool = True
) -> str:
    """The page: the rows, what the columns hold, the chart, the variants, and the notes."""
    lines = [
        f"| `{r.variant}` | {plus_minus(r.bound, r.spread)} | "
        f"{'' if r.difference is None else plus_minus(r.difference, r.interval, '+')} | "
        f"{'' if r.claimed is None else f'{r.claimed:.2f}'} | {r.rate:.2f} | {r.distortion:.2f} | "
        f"{r.parameters:,} | {r.images_per_second:.0f} | {r.examples:,.0f} | {len(r.seeds)} |\n"
        for r in found
    ]
    named = "".join(f"- `{r.variant}`: {r.what}\n" for r in found)
    left = "".join(f"- {note}\n" for note in notes)
    picture = "\n![Differences to the baseline](table.svg)\n" if chart else ""
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


# ---- the chart ----------------------------------------------------------------------------------

TICKS = [0, *(sign * t for t in (1, 5, 20, 100, 500, 2000, 10_000) for sign in (-1, 1))]
BETTER, WORSE, UNSURE, CLAIM = "#1b7f5c", "#b03a2e", "#5d6d7e", "#c77c11"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "drawnet",
    "font.size": 9,
    "font.sans-serif": ["DejaVu Sans"],
    "text.parse_math": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 10,
    "axes.axisbelow": True,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.edgecolor": "#bbb",
    "axes.grid": True,
    "grid.color": "#e3e6e8",
    "xtick.color": "#bbb",
    "xtick.labelcolor": "#222",
    "ytick.major.size": 0,
}
METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def svg(width: float, height: float, draw: "Callable[[Figure], object]") -> str:
    """The picture, of so many inches, that `draw` puts on an empty figure: the same text every time."""
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ModuleNotFoundError as why:
        raise UserError("charts need an extra: pip install 'drawnet[plots]'") from why
    with style.context(["default", STYLE]):
        draw(figure := Figure((width, height), layout="constrained"))
        figure.savefig(file := io.StringIO(), format="svg", metadata=METADATA)
    return "\n".join(line.strip() for line in file.getvalue().splitlines()) + "\n"


def plot(title: str, found: Sequence[Row]) -> str:
    """Differences to the baseline as an SVG picture: best first, a dot a seed, mean and interval."""
    height = 1.2 + 0.24 * len(found)
    return svg(9, height, lambda figure: differences(figure.add_subplot(), title, found))


def differences(axes: "Axes", title: str, found: Sequence[Row]) -> None:
    """The rows that are compared, best first.

    The axis is asinh(nats), about linear within a nat and logarithmic beyond.  A diamond is what
    would be claimed.  Green is better than the baseline, red worse, grey neither for sure.
    """
    base = next((r for r in found if r.variant == "baseline"), None)
    shown = sorted((r for r in found if r.difference is not None), key=lambda r: r.bound)
    if base:
        title = f"{title}; baseline {plus_minus(base.bound, base.spread)}"
    axes.set_title("Difference to the baseline's bound, nats: left of 0 is better")
    axes.set_xlabel(title)
    axes.set_xscale("asinh")
    axes.set_xticks(TICKS, [f"{t:+,}" if t else "0" for t in TICKS])
    axes.minorticks_off()
    axes.set_yticks(range(len(shown)), [r.variant for r in shown])
    axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.axvline(0, color="#333", linewidth=1)
    for y, r in enumerate(shown):
        assert r.difference is not None
        d, half, shift = r.difference, r.interval, r.difference - r.bound
        sure = half is not None and abs(d) > half
        colour = (BETTER if d < 0 else WORSE) if sure else UNSURE
        axes.errorbar(d, y, xerr=half, color=colour, linewidth=2)
        seeds = [bound + shift for bound in r.bounds]
        axes.scatter(seeds, [y] * len(seeds), 14, "white", edgecolors=colour, zorder=3)
        if r.claimed is not None:
            axes.scatter(r.claimed + shift, y, 40, "white", marker="D", edgecolors=CLAIM, zorder=3)
        axes.scatter(d, y, 45, colour, edgecolors="white", zorder=4)
        axes.annotate(
            plus_minus(d, half, "+"), (1.01, y), xycoords=axes.get_yaxis_transform(),
            va="center", color=colour, annotation_clip=False,
        )  # fmt: skip
