"""What a comparison says, in words: which is better, by how much, and how sure that is. Never that two are equal."""

from __future__ import annotations

from star_bench.analysis.compare import Comparison, Row
from star_bench.analysis.numbers import ABSENT, number, signed

ALPHA = 0.05  # chosen here: the level of the intervals, for the tags' corrected p-values


def p_text(p: float | None) -> str:
    """Four decimals, and for less than they can show that it is less."""
    return ABSENT if p is None else "<0.0001" if p < 0.00005 else number(p)


def interval(row: Row) -> str:
    """The difference's, with signs; empty without one."""
    low, high = row.difference.low, row.difference.high
    return "" if low is None or high is None else f"{signed(low)} to {signed(high)}"


def direction(row: Row) -> int:
    """1 where it is shown to have risen, -1 to have fallen, else 0: the interval holds no 0, and of a tag the corrected p
    is at most ALPHA too, since one of many tags moves by chance.
    """
    low, high = row.difference.low, row.difference.high
    if low is None or high is None or (row.kind == "tag" and (row.p_holm is None or row.p_holm > ALPHA)):
        return 0
    return 1 if low > 0 else -1 if high < 0 else 0


def better_is_higher(comparison: Comparison, row: Row) -> bool:
    """False for a measure that only describes, as contrast does."""
    name = row.name if row.kind == "aggregate" else comparison.headline.name
    return all(measure.better == "higher" for measure in comparison.before.results.measures if measure.name == name)


def moved(comparison: Comparison, row: Row) -> str:
    """better, worse, higher or lower where that is shown; else empty."""
    words = ("better", "worse") if better_is_higher(comparison, row) else ("higher", "lower")
    found = direction(row)
    return words[0] if found > 0 else words[1] if found < 0 else ""


def sentence(comparison: Comparison, before: str, after: str) -> str:
    """The headline's difference in words; before and after: what the models are called."""
    row = comparison.headline
    value = row.difference.value
    if value is None:
        return f"Nothing can be said: no prompt has a {row.title} in both runs"
    if comparison.identical:
        return f"{after} made the same pictures as {before}, byte for byte"
    if not interval(row):
        return f"Nothing is shown: the difference is {signed(value)}, without an interval, because a tag has a single prompt"
    if word := moved(comparison, row):
        ends = sorted(abs(end) for end in (row.difference.low, row.difference.high) if end is not None)
        return f"{after} is {word} than {before} by {number(abs(value))} ({number(ends[0])} to {number(ends[1])})"
    return f"No difference shown between {after} and {before}: {signed(value)} ({interval(row)})"


def flips_line(comparison: Comparison) -> str:
    """How many images changed, and in which direction."""
    counts = comparison.counts
    up, down = ("better", "worse") if better_is_higher(comparison, comparison.headline) else ("higher", "lower")
    images = "image" if counts["better"] == 1 else "images"
    return f"{counts['better']} {images} {up}, {counts['worse']} {down}, {counts['unchanged']} unchanged"
