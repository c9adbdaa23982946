"""The pages of a comparison: one for each two runs, and an overview where there are several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from star_bench.analysis.compare import METHODS, Comparison, Row
from star_bench.analysis.numbers import number, signed
from star_bench.analysis.runs import SuiteComparison
from star_bench.reporting import tables
from star_bench.reporting.chart import Axis
from star_bench.reporting.comparison.pair_cards import MOST_UNCHANGED, PairCard, verdict_words
from star_bench.reporting.comparison.tables import each, metrics, p_columns
from star_bench.reporting.comparison.words import flips_line, interval, moved, p_text, sentence
from star_bench.reporting.gallery.cards import Card
from star_bench.reporting.gallery.viewer import viewer_data
from star_bench.reporting.page import Scale, page
from star_bench.runs.finished import Results

SCRIPTS = ("overlay.js", "details.js", "pairs.js", "gallery.js")
WAYS = {"": "", "better": "risen", "worse": "fallen", "higher": "moved", "lower": "moved"}
STYLES = ("run.css", "gallery.css", "viewer.css", "compare.css")


def render_comparison(
    comparison: Comparison, before: str, after: str, cards: Sequence[PairCard], overview: str = ""
) -> str:
    """The page of two runs. before, after: what they are called. overview: the address of the page of all, if any.

    Pictures are expected beside it, under the cards' names.
    """
    words = verdict_words(comparison)
    counts = Counter(card.verdict for card in cards)
    values = {
        "comparison": comparison,
        "title": comparison.before.results.title,
        "before": before,
        "after": after,
        "sentence": sentence(comparison, before, after),
        "flips": flips_line(comparison),
        "headline": _bar(comparison, comparison.headline, alone=True),
        "rows": [_bar(comparison, row) for row in comparison.rows],
        "p_columns": list(p_columns(comparison).values()),
        "metrics": metrics(comparison),
        "methods": [METHODS["difference"], *(f"{head}: {METHODS[key]}" for key, head in p_columns(comparison).items())],
        "provenance": _both(comparison.before.results, comparison.after.results),
        "cards": cards,
        "images": [_data(card) for card in cards],
        "verdicts": [(word, counts[word]) for word in words if counts[word]],
        "tags": list(Counter(card.before.tag for card in cards if card.before.tag).items()),
        "words": words,
        "most_unchanged": MOST_UNCHANGED,
        "has_boxes": any(side.detections for card in cards for side in (card.before, card.after)),
        "has_masks": any(
            detection.mask for card in cards for side in (card.before, card.after) for detection in side.detections
        ),
        "overview": overview,
    }
    return page("compare.html.j2", values, styles=STYLES, scripts=SCRIPTS)


def render_overview(found: Sequence[SuiteComparison], addresses: Sequence[str]) -> str:
    """The page of several comparisons; addresses: of each one's own page, in order."""
    lines = [
        {
            "suite": suite.results.title,
            "metric": "; ".join(metrics(comparison)),
            "before": before,
            "after": after,
            "sentence": sentence(comparison, before, after),
            "flips": flips_line(comparison),
            "bar": _bar(comparison, comparison.headline, alone=True),
            "notices": comparison.notices,
            "address": address,
        }
        for (suite, comparison, before, after), address in zip(each(found), addresses, strict=True)
    ]
    notices = list(dict.fromkeys(notice for _, comparison, _, _ in each(found) for notice in comparison.notices))
    values = {"lines": lines, "notices": notices, "method": METHODS["difference"], "names": _all_names(found)}
    return page("compare_overview.html.j2", values, styles=STYLES)


def _all_names(found: Sequence[SuiteComparison]) -> list[str]:
    """The models' own names, the baseline first."""
    return list(dict.fromkeys(run.results.model.name for suite in found for run in suite.runs))


def _bar(comparison: Comparison, row: Row, *, alone: bool = False) -> dict[str, Any]:
    """A row of the table as its text, and where its difference lies on an axis around 0.

    All rows share the axis; alone, and in a suite of several measures, whose units have none in common, each has its own.
    """
    end = _reach([row] if alone or comparison.before.results.measures else comparison.rows)
    return {
        "kind": row.kind,
        "title": row.title,
        "before": number(row.before),
        "after": number(row.after),
        "difference": signed(row.difference.value),
        "interval": interval(row),
        "p_values": [(head, p_text(getattr(row, name))) for name, head in p_columns(comparison).items()],
        # Its colour: a description that moved is neither good nor bad.
        "way": WAYS[moved(comparison, row)],
        "estimate": row.difference,
        "scale": Scale(-end, end),
        "end": end,
    }


def _reach(rows: Sequence[Row]) -> float:
    """As far as any interval reaches from 0, up to a round number."""
    ends = [row.difference.low for row in rows] + [row.difference.high for row in rows]
    ends += [row.difference.value for row in rows]
    far = max((abs(end) for end in ends if end is not None), default=0.0)
    return Axis.over([-far, far], 0, 1, ticks=8).widened().high


def _data(card: PairCard) -> dict[str, Any]:
    """What the page's script knows of a pair: what filters ask for, and both sides in full."""
    before, after = card.before, card.after
    return {
        "id": before.prompt_id,
        "k": before.k,
        "tag": before.tag,
        "verdict": card.verdict,
        "value": card.change,
        "before": _side(before),
        "after": _side(after),
    }


def _side(card: Card) -> dict[str, Any]:
    picture = card.picture
    shown = (
        {"src": picture.url, "width": picture.width, "height": picture.height, "small": picture.is_small}
        if picture
        else None
    )
    return {**viewer_data([card])[0], "score": card.score, "picture": shown}


def _both(before: Results, after: Results) -> dict[str, list[tuple[str, str, str]]]:
    """Section -> (fact, in the first, in the second), as `tables.provenance` has them for one run."""
    sides: list[Mapping[str, Mapping[str, str]]] = [tables.provenance(before), tables.provenance(after)]
    out = {}
    for section in dict.fromkeys(section for side in sides for section in side):
        a, b = (side.get(section, {}) for side in sides)
        out[section] = [(fact, a.get(fact, ""), b.get(fact, "")) for fact in dict.fromkeys([*a, *b])]
    return out
