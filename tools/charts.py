"""The charts of a run record: its learning curve, and the KL of every step."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from drawnet.ablation.table import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from records import Record

INK = "#1b5f8c"


def of(record: "Record") -> str:
    """An SVG picture of a record, one panel or two side by side; "" where there is nothing to show."""
    curve = [(minutes, value) for _, minutes, value in record.curve]
    steps = next((k for e in record.evaluations if len(k := getattr(e, "kl_per_step", [])) > 1), [])
    pairs: list[tuple[Callable[..., None], Sequence[Any]]] = [(learning, curve), (rates, steps)]
    panels = [(panel, values) for panel, values in pairs if values]

    def draw(figure: "Figure") -> None:
        for k, (panel, values) in enumerate(panels, 1):
            panel(figure.add_subplot(1, len(panels), k), values)

    return svg(4.2 * len(panels), 2.4, draw) if panels else ""


def learning(axes: "Axes", curve: Sequence[tuple[float, float]]) -> None:
    """(minutes, value) of every validation, over the logarithm of the minutes."""
    from matplotlib.ticker import LogLocator

    minutes, values = zip(*curve, strict=True)
    axes.plot([max(m, 0.1) for m in minutes], values, color=INK, marker="." * (len(curve) == 1))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    _labelled(axes, "validation", "processor minutes")


def rates(axes: "Axes", steps: Sequence[float]) -> None:
    """The KL of every step, nats, from the first to the last."""
    axes.bar(range(1, len(steps) + 1), steps, color=INK)
    axes.set_xticks(sorted({1, len(steps) // 2, len(steps)}))
    _labelled(axes, "rate of each step, nats", "step t")


def _labelled(axes: "Axes", title: str, below: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(below)
    axes.grid(axis="x", visible=False)
