"""The pairs of pictures that a comparison shows: all that changed, and some that did not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from star_bench.analysis.compare import Comparison, Pair
from star_bench.analysis.numbers import signed
from star_bench.reporting.comparison.words import better_is_higher
from star_bench.reporting.gallery.cards import Card, card_of
from star_bench.runs.finished import RunFiles, RunImage

MOST_UNCHANGED = 60
"""Unchanged pairs that are shown, spread over the suite: enough to see what both can do (chosen here)."""


@dataclass(frozen=True)
class PairCard:
    """Image k of a prompt in both runs. change: after - before; verdict: what became of it, in one word.

    Of one verdict all are shown, but of those that did not change at most MOST_UNCHANGED.
    """

    before: Card
    after: Card
    change: float
    verdict: str
    binary: bool

    @property
    def score(self) -> str:
        """Both scores, and where more is said by it, their difference."""
        if self.binary:
            return f"{self.before.verdict} → {self.after.verdict}"
        return f"{self.before.score} → {self.after.score} ({signed(self.change)})"

    @property
    def note(self) -> str:
        """What was read of a text by both, or the reason of the one that failed; empty where none is given."""
        if self.before.alignment and self.after.alignment:
            return f"“{self.before.read}” → “{self.after.read}”"
        failed = [card.reason for card in (self.before, self.after) if card.reason]
        return failed[-1] if failed else ""


def verdict_words(comparison: Comparison) -> tuple[str, str, str]:
    """What a pair can be: fallen, risen and unchanged, in the metric's own sense."""
    higher = better_is_higher(comparison, comparison.headline)
    return ("worse", "better", "unchanged") if higher else ("lower", "higher", "unchanged")


def shown_pairs(comparison: Comparison) -> list[Pair]:
    """In the suite's order."""
    unchanged = [i for i, pair in enumerate(comparison.pairs) if not pair.change]
    step = max(len(unchanged) / MOST_UNCHANGED, 1.0)
    kept = {unchanged[int(n * step)] for n in range(min(len(unchanged), MOST_UNCHANGED))}
    return [pair for i, pair in enumerate(comparison.pairs) if pair.change or i in kept]


def pair_cards(comparison: Comparison) -> Iterator[PairCard]:
    """A card per pair that is shown; pictures are read one pair at a time, and named below a folder of their run, so that
    several pages can share them. Raises what `card_of` raises.
    """
    words = verdict_words(comparison)
    for pair in shown_pairs(comparison):
        yield PairCard(
            before=_card(comparison.before, pair.before, comparison.binary),
            after=_card(comparison.after, pair.after, comparison.binary),
            change=pair.change,
            verdict=words[0] if pair.change < 0 else words[1] if pair.change > 0 else words[2],
            binary=comparison.binary,
        )


def _card(run: RunFiles, image: RunImage, binary: bool) -> Card:
    card = card_of(run, image, binary=binary)
    if card.picture is None:
        return card
    folder = run.results.digest[:16]
    names = card.picture.name, card.picture.thumbnail_name
    name, thumbnail = (f"pictures/{folder}/{each}" for each in names)
    return replace(card, picture=replace(card.picture, name=name, thumbnail_name=thumbnail))
