"""Plots as SVG text: the few shapes of which they are made.  Lengths are pixels."""

from collections.abc import Iterable, Sequence
from html import escape

MIDDLE, END = "text-anchor='middle' fill='#555'", "text-anchor='end'"


def picture(width: float, height: float, parts: Iterable[str]) -> str:
    """A whole file, on white."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
    style = 'font-family="system-ui, sans-serif" font-size="12" fill="#222">'
    ground = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([head + style, ground, *parts]) + "\n</svg>\n"


def text(x: float, y: float, words: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    places = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {places} stroke="{colour}" stroke-width="{width}"/>'


def dot(x: float, y: float, radius: float, fill: str, edge: str) -> str:
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius}"'
    return f'<circle {place} fill="{fill}" stroke="{edge}" stroke-width="1.2"/>'


def path(points: Sequence[tuple[float, float]], colour: str, width: float) -> str:
    """Straight from point to point."""
    along = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{along}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    """A filled rectangle, its upper left corner at (x, y)."""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{colour}"/>'
