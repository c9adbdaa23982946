"""Pages: one HTML file beside its pictures that asks nothing of a network and opens from a folder. First of all a run's."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from star_bench.reporting import tables
from star_bench.reporting.gallery import Card
from star_bench.reporting.run_files import Interval, Results

TEMPLATES = Path(__file__).parent / "templates"
RECONSTRUCTED = (
    "STAR here is star-bench's reconstruction from its paper's abstract (arXiv:2606.17979), not its authors' code"
)
"""Stands wherever numbers of STAR are shown."""


@dataclass(frozen=True)
class Scale:
    """Where a value lies between the ends of the interval bars."""

    low: float
    high: float

    def percent(self, value: float) -> str:
        """Position as an SVG length, kept on the bar."""
        share = (value - self.low) / (self.high - self.low)
        return f"{100 * min(max(share, 0.0), 1.0):.2f}%"


def scale(results: Results) -> Scale | None:
    """The metric's whole range; where it has no end, the span of this run's intervals with some room. None for a suite
    of several measures: numbers of different units have no axis in common."""
    if results.measures:
        return None
    low, high = results.metric.range
    entries: list[Interval] = [*results.aggregates, *results.tags]
    ends = [end for e in entries for end in (e.low, e.value, e.high) if end is not None] or [0.0, 1.0]
    room = 0.1 * (max(ends) - min(ends)) or 1.0
    low, high = (min(ends) - room if low is None else low), (max(ends) + room if high is None else high)
    return Scale(low, high) if high > low else Scale(low, low + 1.0)


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
        if low == high:
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


def _inline(*names: str) -> tuple[Markup, str]:
    """Styles or scripts of ours as one, and the source expression that lets exactly it through the page's policy."""
    text = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"'sha256-{digest}'"


def _is_link(text: str) -> bool:
    """Escaping does not disarm javascript: addresses, so only plain web addresses become links."""
    return text.startswith(("https://", "http://")) and not any(char.isspace() for char in text)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = tables.number
    environment.tests["link"] = _is_link
    return environment


def _counted(words: Sequence[str]) -> list[tuple[str, int]]:
    """Each word with how often it occurs, in order of first sight."""
    return list(Counter(words).items())


def page(template: str, values: Mapping[str, Any], *, styles: Sequence[str] = (), script: str = "") -> str:
    """A template that extends base.html.j2 as HTML. styles follow base.css; script is a file's name, "" for none.

    All values are text to the page: the template escapes them, and the page's policy runs no script but its own even
    if that failed.
    """
    css, css_source = _inline("base.css", *styles)
    js, js_source = _inline(script) if script else (Markup(""), "'none'")
    # 'self' means nothing to some browsers when a page is opened as a file, so file: is named as well.
    policy = (
        f"default-src 'none'; img-src 'self' file:; style-src {css_source}; script-src {js_source}; "
        "base-uri 'none'; form-action 'none'"
    )
    return _environment().get_template(template).render({**values, "css": css, "js": js, "policy": policy})


def render(results: Results, cards: Sequence[Card]) -> str:
    """A run's page as HTML. Pictures are expected beside it, under the cards' names."""
    published = tables.published_frame(results)
    numeric = [dtype.kind == "f" for dtype in published.dtypes]
    values = {
        "results": results,
        "headline": results.aggregates[0],
        "measures": [
            *((entry.title, "aggregate", entry) for entry in results.aggregates),
            *((entry.tag, "tag", entry) for entry in results.tags),
        ],
        "scale": scale(results),
        "notices": tables.notices(results),
        "provenance": tables.provenance(results),
        "published_names": list(zip(published.columns, numeric, strict=True)),
        "published": [list(zip(row, numeric, strict=True)) for row in tables.cells(published)],
        "published_caption": tables.PUBLISHED_CAPTION,
        "cards": cards,
        "tags": _counted([card.tag for card in cards if card.tag]),
        "verdicts": _counted([card.verdict for card in sorted(cards, key=_verdict_order)]),
        "has_boxes": any(card.detections for card in cards),
    }
    return page("run.html.j2", values, styles=["run.css"], script="run.js")


VERDICTS = ("passed", "failed", "scored")


def _verdict_order(card: Card) -> int:
    """Scores before failures; sorting is stable for the rest."""
    return VERDICTS.index(card.verdict) if card.verdict in VERDICTS else len(VERDICTS)
