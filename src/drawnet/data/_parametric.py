"""Parametric chairs: legs, seat, back, arms, stretchers, proportions and colours.

Lengths are metres until a chair is scaled; it faces -y, stands on z = 0, and x is its width.
`chair(seed, n)` is a pure function of seed and n.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from drawnet.data._render import Solid, frustum
from drawnet.nn.noise import uniform_each

Colour = tuple[float, float, float]
Point = tuple[float, float, float]
T = TypeVar("T")

WOODS = ((0.80, 0.62, 0.40), (0.62, 0.40, 0.22), (0.40, 0.24, 0.14), (0.90, 0.82, 0.68))
METALS = ((0.75, 0.76, 0.78), (0.0, 0.0, 0.0), (0.95, 0.95, 0.93), (0.35, 0.36, 0.38))
CLOTHS = (
    (0.70, 0.12, 0.12), (0.14, 0.30, 0.60), (0.18, 0.45, 0.25), (0.85, 0.65, 0.15),
    (0.55, 0.55, 0.58), (0.12, 0.12, 0.13), (0.88, 0.84, 0.76), (0.45, 0.22, 0.45),
    (0.90, 0.45, 0.10), (0.20, 0.55, 0.60),
)  # fmt: skip


class Dice:
    """Random numbers of one chair, U(0, 1), consumed in order."""

    def __init__(self, seed: int, n: int) -> None:
        self.numbers: Iterator[float] = iter(
            uniform_each(seed, "chairs", [n], 64)[0].double().tolist()
        )

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * next(self.numbers)

    def one_of(self, *things: T) -> T:
        return things[int(next(self.numbers) * len(things))]

    def colour(self, palette: Sequence[Colour]) -> Colour:
        """Return a colour of the palette, up to a fifth darker or lighter."""
        light = self.between(0.8, 1.2)
        red, green, blue = (min(1.0, light * part) for part in self.one_of(*palette))
        return red, green, blue


class Builder:
    """Collects the solids of one chair."""

    def __init__(self) -> None:
        self.solids: list[Solid] = []

    def upright(
        self, a: Point, b: Point, x: float, y: float, colour: Colour,
        taper: float = 1.0, sides: int = 4,
    ) -> None:  # fmt: skip
        """Add a bar from a up to b with horizontal sections, x wide and y deep."""
        e, f = (x / 2, 0, 0), (0, y / 2, 0)
        self.solids.append(frustum(a, b, e, f, colour, taper, sides))

    def level(
        self, a: Point, b: Point, thick: float, high: float, colour: Colour, sides: int = 4
    ) -> None:
        """Add a bar from a to b whose section is `thick` across and `high`."""
        along = np.subtract(b, a)[:2] / np.linalg.norm(np.subtract(b, a)[:2])
        e, f = (-along[1] * thick / 2, along[0] * thick / 2, 0), (0, 0, high / 2)
        self.solids.append(frustum(a, b, e, f, colour, 1.0, sides))


def chair(seed: int, n: int) -> list[Solid]:
    """Return chair n of a seed, centred at the origin, half the diagonal of its bounding box 1."""
    dice, made = Dice(seed, n), Builder()
    frame = dice.colour(dice.one_of(WOODS, METALS))
    cloth = dice.one_of(frame, dice.colour(CLOTHS), dice.colour(CLOTHS))
    width, depth = dice.between(0.40, 0.62), dice.between(0.40, 0.56)
    seat, thick = dice.between(0.38, 0.50), dice.between(0.025, 0.11)
    legs = dice.one_of("four", "four", "four", "four", "star", "sled", "disc", "block")
    top = seat + thick
    bar = dice.between(0.025, 0.06)
    round_seat = legs in ("four", "star", "disc") and dice.between(0, 1) < 0.2
    made.upright(
        (0, 0, seat), (0, 0, top), width, depth, cloth,
        dice.between(0.9, 1.0), 12 if round_seat else 4,
    )  # fmt: skip
    inner = 0.72 if round_seat else 1.0  # legs stand under the seat
    LEGS[legs](dice, made, frame, inner * width, inner * depth, seat, bar)
    back(dice, made, frame, cloth, width, depth, top, bar, round_seat, legs == "block")
    if not round_seat:
        arms(dice, made, frame, cloth, width, depth, top, bar, legs == "block")
    return fitted(made.solids)


def four_legs(
    dice: Dice, made: Builder, frame: Colour, width: float, depth: float, seat: float, bar: float
) -> None:
    """Add four legs, straight or splayed, tapering or not, with or without stretchers."""
    splay, taper = dice.between(-0.02, 0.10), dice.between(0.45, 1.0)
    sides = dice.one_of(4, 4, 8)
    inset = 0.75 if splay > 0.05 else 1.0
    x, y = (width / 2 - bar / 2) * inset, (depth / 2 - bar / 2) * inset

    def at(i: int, j: int, height: float) -> Point:
        out = splay * (1 - height / seat)
        return i * (x + out), j * (y + out), height

    for i in (-1, 1):
        for j in (-1, 1):
            low = bar * taper
            made.upright(at(i, j, 0), at(i, j, seat), low, low, frame, 1 / taper, sides)
    kind, thin = dice.one_of("none", "none", "H", "box", "front"), bar * 0.6
    z = dice.between(0.25, 0.55) * seat
    if kind in ("H", "box"):
        for i in (-1, 1):
            made.level(at(i, -1, z), at(i, 1, z), thin, thin, frame)
    if kind == "H":
        (right, _, _), (left, _, _) = at(1, 1, z), at(-1, 1, z)
        made.level((left, 0, z), (right, 0, z), thin, thin, frame)
    for j in {"box": (-1, 1), "front": (-1,)}.get(kind, ()):
        made.level(at(-1, j, z), at(1, j, z), thin, thin, frame)
    if dice.between(0, 1) < 0.5:  # a rail under the seat
        rail = dice.between(0.03, 0.07)
        for i in (-1, 1):
            made.level(
                (i * x, -y, seat - rail / 2), (i * x, y, seat - rail / 2), bar / 2, rail, frame
            )
            made.level(
                (-x, i * y, seat - rail / 2), (x, i * y, seat - rail / 2), bar / 2, rail, frame
            )


def star(
    dice: Dice, made: Builder, frame: Colour, width: float, depth: float, seat: float, bar: float
) -> None:
    """Add a column on four or five feet, with or without castors."""
    feet, reach = dice.one_of(4, 5, 5), dice.between(0.26, 0.34)
    column, foot, z = bar * 1.2, dice.between(0.03, 0.05), dice.between(0.05, 0.10)
    made.upright((0, 0, z - 0.02), (0, 0, seat), column, column, frame, sides=8)
    castors = dice.between(0, 1) < 0.6
    for k in range(feet):
        turn = 2 * np.pi * (k + 0.25) / feet
        x, y = reach * float(np.cos(turn)), reach * float(np.sin(turn))
        made.level((0, 0, z), (x, y, z if castors else foot / 2), foot, foot, frame)
        if castors:
            made.upright((x, y, 0), (x, y, z), foot, foot, frame, sides=8)


def sled(
    dice: Dice, made: Builder, frame: Colour, width: float, depth: float, seat: float, bar: float
) -> None:
    """Add two frames with runners along the floor."""
    x, y, thin = width / 2 - bar / 2, depth / 2 - bar / 2, bar * 0.7
    lean = dice.between(0.0, 0.08)
    open_end = dice.one_of(0, 0, 1)  # a cantilever has no legs behind
    for i in (-1, 1):
        made.level((i * x, -y - lean, thin / 2), (i * x, y + lean, thin / 2), thin, thin, frame)
        for j in (-1, 1)[: 2 - open_end]:
            made.upright((i * x, j * (y + lean), 0), (i * x, j * y, seat), thin, thin, frame)
    for j in (-1, 1)[open_end:]:
        made.level((-x, j * (y + lean), thin / 2), (x, j * (y + lean), thin / 2), thin, thin, frame)


def disc(
    dice: Dice, made: Builder, frame: Colour, width: float, depth: float, seat: float, bar: float
) -> None:
    """Add a column on a round foot."""
    wide, column = dice.between(0.36, 0.50), dice.between(0.05, 0.10)
    made.upright((0, 0, 0), (0, 0, 0.03), wide, wide, frame, dice.between(0.6, 1.0), 12)
    made.upright((0, 0, 0.02), (0, 0, seat), column, column, frame, sides=8)


def block(
    dice: Dice, made: Builder, frame: Colour, width: float, depth: float, seat: float, bar: float
) -> None:
    """Add an armchair's body on short feet."""
    feet = dice.between(0.04, 0.12)
    colour = made.solids[0].colour
    made.upright((0, 0, feet), (0, 0, seat), width * 0.97, depth * 0.97, colour)
    x, y = width / 2 - bar, depth / 2 - bar
    for i in (-1, 1):
        for j in (-1, 1):
            made.upright((i * x, j * y, 0), (i * x, j * y, feet), bar, bar, frame, 1.3)


LEGS = {"four": four_legs, "star": star, "sled": sled, "disc": disc, "block": block}


def back(
    dice: Dice, made: Builder, frame: Colour, cloth: Colour, width: float, depth: float,
    top: float, bar: float, round_seat: bool, upholstered: bool,
) -> None:  # fmt: skip
    """Add a panel, posts with upright or level slats, or posts with a panel above; reclined."""
    high, lean = dice.between(0.30, 0.58), dice.between(0.0, 0.16)
    kind = dice.one_of("panel", "panel", "slats", "ladder", "half")
    kind = "panel" if upholstered else kind
    wide = width * (dice.between(0.6, 0.75) if round_seat else dice.between(0.85, 1.0))
    y, thick = depth / 2 - bar / 2, bar * dice.between(0.6, 1.0)
    y -= 0.25 * depth * (1 - (1 - (wide / width) ** 2) ** 0.5) * round_seat

    def at(x: float, part: float) -> Point:
        return x, y + lean * part, top + high * part

    if kind == "panel":
        gap = 0.0 if upholstered else dice.one_of(0.0, 0.0, 0.2)
        taper = dice.between(0.75, 1.1)
        made.upright(at(0, gap), at(0, 1), wide, thick + 0.02, cloth, taper)
        if gap:
            for i in (-1, 1):
                made.upright(at(i * wide * 0.3, 0), at(i * wide * 0.3, gap), bar, thick, frame)
        return
    x = wide / 2 - bar / 2
    for i in (-1, 1):
        made.upright(at(i * x, 0), at(i * x, 1), bar, bar, frame, sides=dice.one_of(4, 8))
    rail = dice.between(0.10, 0.22)
    made.upright(at(0, 1 - rail), at(0, 1), wide, thick, dice.one_of(frame, cloth))
    if kind == "slats":
        count = dice.one_of(2, 3, 4, 5)
        for k in range(count):
            place = x * (2 * (k + 1) / (count + 1) - 1)
            made.upright(at(place, 0), at(place, 1 - rail), wide * 0.09, thick * 0.6, frame)
    if kind == "ladder":
        count = dice.one_of(1, 2, 3)
        for k in range(count):
            low = (1 - rail) * (k + 0.6) / (count + 0.6)
            made.upright(at(0, low), at(0, low + 0.10), 2 * x, thick * 0.7, frame)
    if kind == "half":
        made.upright(at(0, dice.between(0.3, 0.5)), at(0, 1 - rail), 2 * x, thick * 0.8, cloth)


def arms(
    dice: Dice, made: Builder, frame: Colour, cloth: Colour, width: float, depth: float,
    top: float, bar: float, upholstered: bool,
) -> None:  # fmt: skip
    """Add no arms, rests on posts or, for an upholstered body, walls."""
    high, thick = dice.between(0.15, 0.25), bar * dice.between(0.7, 1.1)
    if dice.between(0, 1) > (0.85 if upholstered else 0.4):
        return
    x, front = width / 2 + thick / 2, -depth / 2 * dice.between(0.5, 0.95)
    for i in (-1, 1):
        if upholstered:
            wall = 0.10
            made.upright(
                (i * (width / 2 + wall / 2), 0, 0.08), (i * (width / 2 + wall / 2), 0, top + high),
                wall, depth * 0.98, cloth,
            )  # fmt: skip
            continue
        made.upright((i * x, front, top - 0.03), (i * x, front, top + high), thick, thick, frame)
        z, end = top + high + thick / 2, depth / 2
        made.level((i * x, front - thick, z), (i * x, end, z), thick * 1.4, thick, frame)
        made.upright(
            (i * x, end - thick / 2, top - 0.03), (i * x, end - thick / 2, z), thick, thick, frame
        )


def fitted(solids: Sequence[Solid]) -> list[Solid]:
    """Move the centre of the bounding box to the origin; scale half its diagonal to 1."""
    corners = np.concatenate([solid.corners for solid in solids])
    low, high = corners.min(0), corners.max(0)
    radius, middle = np.linalg.norm(high - low) / 2, (low + high) / 2
    return [
        replace(solid, bottom=(solid.bottom - middle) / radius, top=(solid.top - middle) / radius)
        for solid in solids
    ]
