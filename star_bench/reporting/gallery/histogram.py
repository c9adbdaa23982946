"""How a run's scores are spread, as bars that a page draws."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from star_bench.reporting.chart import Axis

BARS = 24
"""About so many over the whole axis (chosen here: wide enough to be tapped on a phone)."""


@dataclass(frozen=True)
class Bar:
    """The scores in [low, high), those of the last bar also up to its high; least and greatest are the outermost of them."""

    low: float
    high: float
    count: int
    least: float
    greatest: float


@dataclass(frozen=True)
class Histogram:
    """Bars of one width, those without a score left out, over an axis in the drawing's units, and the axis' ticks."""

    bars: tuple[Bar, ...]
    axis: Axis
    ticks: tuple[tuple[float, str], ...]

    # In the drawing's own units, one of which is about a pixel on a phone.
    width: ClassVar[int] = 420
    height: ClassVar[int] = 64
    edge: ClassVar[int] = 12

    def tall(self, bar: Bar) -> float:
        """In the drawing's units; a single image can still be seen."""
        return max(self.height * bar.count / max(each.count for each in self.bars), 2.0)


def histogram(values: Sequence[float], low: float | None, high: float | None) -> Histogram | None:
    """Of scores, over the metric's range, or their own where it has no such end. None for fewer than two scores.

    Edges are at multiples of a step that is one of 1, 2 or 5 times a power of ten, from the lowest on.
    """
    if len(values) < 2:
        return None
    ends = [min(values) if low is None else low, max(values) if high is None else high]
    axis = Axis.over(ends, Histogram.edge, Histogram.width - Histogram.edge, ticks=BARS).widened()
    last = round((axis.high - axis.low) / axis.step) - 1
    binned: dict[int, list[float]] = defaultdict(list)
    for value in values:
        # What lies on an edge, up to rounding, belongs above it.
        binned[min(max(math.floor((value - axis.low) / axis.step + 1e-9), 0), last)].append(value)
    bars = tuple(
        Bar(axis.low + i * axis.step, axis.low + (i + 1) * axis.step, len(own), min(own), max(own))
        for i, own in sorted(binned.items())
    )
    ticks = Axis.over([axis.low, axis.high], axis.start, axis.end, ticks=5).ticks
    return Histogram(bars, axis, tuple(ticks))
