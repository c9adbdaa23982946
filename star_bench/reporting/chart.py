"""Lines over epochs, as a page draws them: what lies where on an axis, and which ticks are read beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import ClassVar


@dataclass(frozen=True)
class Line:
    """points are (x, y) in order of x; a y of None is a gap. style: classes of plot.css, such as "c0 mean"."""

    title: str
    points: Sequence[tuple[float, float | None]]
    style: str


@dataclass(frozen=True)
class Axis:
    """A stretch of numbers, its ticks, and where on the drawing, in its units, low and high lie."""

    low: float
    high: float
    step: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, *, ticks: int, whole: bool = False) -> Axis:
        """About so many ticks, one of 1, 2 or 5 times a power of ten apart; whole: never less than 1."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        # Apart by less than floating point keeps apart on an axis is not apart: such values came of rounding.
        if high - low < (1.0 if whole else 1e-12 * max(abs(low), abs(high), 1e-12)):
            room = 0.5 if whole else 0.1 * abs(low) or 0.5
            low, high = low - room, high + room
        rough = (high - low) / ticks
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        return cls(low, high, max(step, 1.0) if whole else step, start, end)

    def widened(self) -> Axis:
        """With a tick at either end."""
        low, high = math.floor(self.low / self.step + 1e-9), math.ceil(self.high / self.step - 1e-9)
        return replace(self, low=low * self.step, high=high * self.step)

    def at(self, value: float) -> float:
        """Position on the drawing."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(position, text), with as many digits as tell two ticks apart."""
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        return [(self.at(k * self.step), self._text(k * self.step)) for k in range(first, last + 1)]

    def _text(self, value: float) -> str:
        finest = math.floor(math.log10(self.step) + 1e-9)
        if abs(value) < self.step / 2:
            return "0"
        if finest >= -4:
            return f"{value:.{max(-finest, 0)}f}".replace("-", "−")
        digits = math.floor(math.log10(abs(value)) + 1e-9) - finest
        mantissa, exponent = f"{value:.{digits}e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")


@dataclass(frozen=True)
class Chart:
    """Lines over whole numbers such as epochs, for the macro of plot.html.j2. bounds: of y, by default the lines' own.

    said: what the picture shows, in words, for who can't see it.
    """

    title: str
    unit: str
    x_title: str
    lines: Sequence[Line]
    said: str
    bounds: tuple[float, float] | None = None

    # In the drawing's own units, one of which is about a pixel on a phone.
    width: ClassVar[int] = 420
    height: ClassVar[int] = 216
    left: ClassVar[int] = 54
    right: ClassVar[int] = 408
    top: ClassVar[int] = 10
    bottom: ClassVar[int] = 176

    @cached_property
    def x(self) -> Axis:
        values = [x for line in self.lines for x, _ in line.points]
        return Axis.over(values, self.left, self.right, ticks=6, whole=True)

    @cached_property
    def y(self) -> Axis:
        values = self.bounds or [y for line in self.lines for _, y in line.points if y is not None]
        return Axis.over(values, self.bottom, self.top, ticks=5).widened()

    def path(self, line: Line) -> str:
        """A line as SVG path data. A point between two gaps becomes a dot, a line of no length with round ends."""
        out, pen = "", "M"
        for x, y in _thinned(line.points, self.right - self.left):
            if y is None:
                pen = "M"
                continue
            out += f"{pen}{self.x.at(x):.1f} {self.y.at(y):.1f}" + ("h0" if pen == "M" else "")
            pen = "L"
        return out


def _thinned(points: Sequence[tuple[float, float | None]], most: int) -> list[tuple[float, float | None]]:
    """Of very many points the lowest and the highest of each stretch: what the eye would see of all of them."""
    if len(points) <= 2 * most:
        return list(points)
    edges = [round(i * len(points) / most) for i in range(most + 1)]
    kept = {0, len(points) - 1}
    for start, end in pairwise(edges):
        heights = [(y, k) for k in range(start, end) if (y := points[k][1]) is not None]
        kept.update({min(heights)[1], max(heights)[1]} if heights else {start})
    return [points[k] for k in sorted(kept)]
