"""Draws the pictures of docs/explained.md into docs/explained/: `python docs/figures.py`.

Everything in them is computed by drawnet: the filters and glimpses by `nn/attention.py`, the steps
by the weights `mnist` on an embedded digit.  Needs the extra `plots`.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from drawnet import data, load
from drawnet.models import sequential
from drawnet.nn import attention

FOLDER = Path(__file__).parent / "explained"
READ, WRITE = "#1f77d0", "#d62728"
WINDOWS = {  # raw parameters: centre x, centre y, log variance, log stride, log intensity
    "wide, blurred": (0.0, 0.0, 0.6, -0.1, 0.0),
    "small, sharp": (0.1, -0.05, -2.0, -1.2, 0.0),
    "narrow stride,\nlarge variance": (0.1, -0.05, 1.6, -1.2, 0.0),
}
N = 12


def digits(n: int) -> torch.Tensor:
    """The first embedded test digits, 0 or 1, (n, 1, 28, 28)."""
    pixels = data.load("digits").splits["test"].pixels[:n]
    return (torch.from_numpy(pixels).float() > 127).float()


def outline(axes: Any, raw: torch.Tensor, n: int, colour: str) -> None:
    """The square on whose edges the outermost filters stand; pixels count from 1."""
    w = attention.window(raw[None], n, 28, 28)
    side = float((n - 1) * w.delta)
    corner = float(w.g_x) - side / 2 - 1, float(w.g_y) - side / 2 - 1
    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=2))


def show(axes: Any, image: torch.Tensor, title: str = "", **options: Any) -> None:
    axes.imshow(image, cmap=options.pop("cmap", "gray"), **options)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)


def filterbanks() -> None:
    """Three windows over one digit: filters, glimpse, and the glimpse laid back on the canvas."""
    x = digits(5)[4:5]
    figure, rows = plt.subplots(len(WINDOWS), 5, figsize=(9.2, 5.6), layout="constrained")
    for k, (row, (name, values)) in enumerate(zip(rows, WINDOWS.items(), strict=True)):
        raw = torch.tensor([values])
        f_y, f_x = attention.filterbanks(attention.window(raw, N, 28, 28), N, 28, 28)
        glimpse = attention.read((x,), raw, N)
        back = attention.write(torch.zeros_like(x), glimpse, raw)
        first = k == 0
        show(row[0], x[0, 0], "image x and window" if first else "")
        row[0].set_ylabel(name, fontsize=10)
        row[0].set(xlim=(-0.5, 27.5), ylim=(27.5, -0.5))
        outline(row[0], raw[0], N, READ)
        bank = {"cmap": "magma", "aspect": "equal"}
        show(row[1], f_y[0].mT, r"$F_Y^{\,T}$: columns are filters" if first else "", **bank)
        show(row[2], f_x[0], r"$F_X$: rows are filters" if first else "", **bank)
        show(row[3], glimpse[0, 0], r"glimpse $\gamma\, F_Y\, x\, F_X^{\,T}$" if first else "")
        show(row[4], back[0, 0], r"written back $F_Y^{\,T} w\, F_X / \gamma$" if first else "")
    save(figure, "filterbanks.png")


def steps() -> None:
    """One digit read and redrawn: what is read, what is missing, what is written, and the rate."""
    model, x = load("mnist"), digits(5)[4:5]
    eps = torch.randn(model.steps, 1, *model.latents, generator=torch.Generator().manual_seed(1))
    moments = list(sequential.redraw(model, x, eps))
    canvases = [model.likelihood(model.start(x.new_zeros(1, 0))).mean]
    canvases += [model.likelihood(m.state).mean for m in moments]
    shown = [1, 8, 16, 24, 32, 40, 48, 56, 64]
    figure = plt.figure(figsize=(9.2, 4.9), layout="constrained")
    grid = figure.add_gridspec(4, len(shown), height_ratios=(1, 1, 1, 1.15))
    names = "x and\nread window", "error image\n$\\hat x_t$", "canvas and\nwrite window"
    for k, t in enumerate(shown):
        windows = model.windows(moments[t - 1].state)
        before, after = canvases[t - 1].detach(), canvases[t].detach()
        axes = [figure.add_subplot(grid[row, k]) for row in range(3)]
        show(axes[0], x[0, 0], f"t = {t}")
        show(axes[1], (x - before)[0, 0], cmap="RdBu_r", vmin=-1, vmax=1)
        show(axes[2], after[0, 0], vmin=0, vmax=1)
        for place, name, n, colour in ((0, "read", 2, READ), (2, "write", 5, WRITE)):
            axes[place].set(xlim=(-0.5, 27.5), ylim=(27.5, -0.5))
            outline(axes[place], windows[name][0], n, colour)
        if not k:
            for axis, label in zip(axes, names, strict=True):
                axis.set_ylabel(label, fontsize=9)
    rate = [float(m.rate) for m in moments]
    below = figure.add_subplot(grid[3, :])
    below.bar(range(1, len(rate) + 1), rate, color=READ, width=0.8)
    below.set(xlim=(0.4, len(rate) + 0.6), xlabel="step t", ylabel="KL$_t$, nats")
    below.spines[["top", "right"]].set_visible(False)
    save(figure, "steps.png")


def network() -> None:
    """One step of DRAW as a diagram, in training and in generation."""
    figure, axes = plt.subplots(figsize=(9.2, 4.0), layout="constrained")
    axes.set(xlim=(0, 23), ylim=(0, 10))
    axes.axis("off")
    axes.plot([13.6, 13.6], [0.2, 9.8], color="#aab4be", linewidth=1, linestyle=":")
    axes.text(0.6, 9.6, "training: step t", fontsize=11.5, weight="bold")
    axes.text(15.4, 9.6, "generation: step t", fontsize=11.5, weight="bold")
    encoder(axes, 0.6, 6.2)
    decoder(axes, 6.2, r"$z_t \sim q$")
    decoder(axes, 15.4, r"$z_t \sim p$")
    save(figure, "network.png")


def decoder(axes: Any, x: float, z: str) -> None:
    """From the latents to the canvas, upwards."""
    box(axes, x, 1.0, z, "#fdeccf")
    box(axes, x, 3.6, "decoder LSTM")
    box(axes, x, 6.2, "write")
    box(axes, x, 8.0, "canvas $c_t$", "#e3f1e1")
    arrow(axes, (x + 1.5, 2.2), (x + 1.5, 3.6))
    arrow(axes, (x + 1.5, 4.8), (x + 1.5, 6.2))
    arrow(axes, (x + 1.5, 7.4), (x + 1.5, 8.0))
    arrow(axes, (x + 3.0, 4.2), (x + 4.6, 4.2))
    arrow(axes, (x + 3.0, 8.6), (x + 4.6, 8.6))
    label(axes, x + 1.7, 5.5, r"$h^{dec}_t$")
    label(axes, x + 3.1, 3.7, r"$h^{dec}_t$ to step t+1")
    label(axes, x + 3.1, 9.0, "to step t+1")


def encoder(axes: Any, x: float, z: float) -> None:
    """From the image to the latents, whose box begins at z."""
    box(axes, x, 1.0, "read", "#e0ecfa")
    box(axes, x, 3.6, "encoder LSTM")
    arrow(axes, (x + 1.0, 0.1), (x + 1.0, 1.0))
    arrow(axes, (x + 1.5, 2.2), (x + 1.5, 3.6))
    arrow(axes, (x + 1.5, 4.8), (x + 1.5, 5.9))
    arrow(axes, (x + 3.0, 4.2), (x + 4.3, 4.2), (x + 4.3, 1.6), (z, 1.6))
    label(axes, x + 1.2, 0.4, r"$x,\ \hat x_t = x - \sigma(c_{t-1}),\ h^{dec}_{t-1}$")
    label(axes, x + 1.7, 2.9, "glimpse $r_t$")
    label(axes, x + 3.1, 4.65, r"$h^{enc}_t$")
    label(axes, x + 1.7, 5.5, r"$h^{enc}_t$ to step t+1")


def box(axes: Any, x: float, y: float, text: str, colour: str = "#eef3f8") -> None:
    style = {"facecolor": colour, "edgecolor": "#445566", "linewidth": 1.1}
    axes.add_patch(FancyBboxPatch((x, y), 3.0, 1.2, "round,pad=0,rounding_size=0.25", **style))
    axes.text(x + 1.5, y + 0.6, text, ha="center", va="center", fontsize=10.5)


def arrow(axes: Any, *points: tuple[float, float]) -> None:
    line = {"color": "#445566", "linewidth": 1.2}
    axes.plot(*zip(*points[:-1], strict=True), **line)
    style = {"arrowstyle": "-|>", "mutation_scale": 11, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(*points[-2:], **style, **line))


def label(axes: Any, x: float, y: float, text: str) -> None:
    axes.text(x, y, text, fontsize=9.5, color="#334455", va="center")


def save(figure: Any, name: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / name, dpi=150, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    mpl.use("Agg")
    torch.set_num_threads(1)
    filterbanks()
    steps()
    network()
