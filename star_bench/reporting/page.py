"""Pages: one HTML file beside its pictures that asks nothing of a network and opens from a folder. First of all a run's."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from star_bench.analysis import caveats
from star_bench.analysis.numbers import number
from star_bench.reporting import tables
from star_bench.reporting.gallery.cards import Card
from star_bench.reporting.gallery.histogram import Histogram, histogram
from star_bench.reporting.gallery.viewer import viewer_data
from star_bench.reporting.masks.picture import INFERNO
from star_bench.reporting.masks.steps import StepMaps
from star_bench.runs.finished import Interval, Results

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
    # `tojson` escapes what could end a script element; without spaces a long list is a fifth shorter.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters["number"] = number
    environment.tests["link"] = _is_link
    return environment


def _counted(words: Sequence[str]) -> list[tuple[str, int]]:
    """Each word with how often it occurs, in order of first sight."""
    return list(Counter(words).items())


def page(template: str, values: Mapping[str, Any], *, styles: Sequence[str] = (), scripts: Sequence[str] = ()) -> str:
    """A template that extends base.html.j2 as HTML. styles follow base.css; scripts run as one, in their order.

    All values are text to the page: the template escapes them, and the page's policy runs no script but its own even
    if that failed.
    """
    css, css_source = _inline("base.css", *styles)
    js, js_source = _inline(*scripts) if scripts else (Markup(""), "'none'")
    # 'self' means nothing to some browsers when a page is opened as a file, so file: is named as well.
    policy = (
        f"default-src 'none'; img-src 'self' file:; style-src {css_source}; script-src {js_source}; "
        "base-uri 'none'; form-action 'none'"
    )
    return _environment().get_template(template).render({**values, "css": css, "js": js, "policy": policy})


def render(results: Results, cards: Sequence[Card], maps: StepMaps | None = None) -> str:
    """A run's page as HTML. Pictures are expected beside it, under the cards' names. maps: the run's, where it has any."""
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
        "notices": caveats.notices(results),
        "provenance": tables.provenance(results),
        "published_names": list(zip(published.columns, numeric, strict=True)),
        "published": [list(zip(row, numeric, strict=True)) for row in tables.cells(published)],
        "published_caption": tables.PUBLISHED_CAPTION,
        "cards": cards,
        "images": viewer_data(cards),
        "histogram": _histogram(results, cards),
        "tags": _counted([card.tag for card in cards if card.tag]),
        "verdicts": _counted([card.verdict for card in sorted(cards, key=_verdict_order)]),
        "has_boxes": any(card.detections for card in cards),
        "has_masks": any(detection.mask for card in cards for detection in card.detections),
        "maps": maps and maps.settings if any(card.strip for card in cards) else None,
        "map_colours": [f"rgb{colour}" for colour in INFERNO],
        "reconstructed": RECONSTRUCTED,
        "is_ranked": any(card.rank and card.rank.of > 1 for card in cards),
    }
    return page("run.html.j2", values, styles=["run.css", "gallery.css", "viewer.css", "maps.css"], scripts=SCRIPTS)


SCRIPTS = ("overlay.js", "maps.js", "details.js", "viewer.js", "gallery.js")


def _histogram(results: Results, cards: Sequence[Card]) -> Histogram | None:
    """None where images pass or fail: the shares in the table say it all."""
    if any(card.verdict in ("passed", "failed") for card in cards):
        return None
    return histogram([card.value for card in cards if card.value is not None], *results.metric.range)


VERDICTS = ("passed", "failed", "scored")


def _verdict_order(card: Card) -> int:
    """Scores before failures; sorting is stable for the rest."""
    return VERDICTS.index(card.verdict) if card.verdict in VERDICTS else len(VERDICTS)
