"""What a run's page knows of its images beyond their cards, as plain data for its script.

The page shows every text of it as text; masks are drawn from their run lengths. What is empty is left out, since the data
of two thousand images are the heaviest part of the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from star_bench.reporting.gallery.cards import Card
from star_bench.reporting.gallery.detections import Detection


def viewer_data(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """One mapping per card, in order: id, k, verdict, tag and value, which filters ask for; and of reason, rank, text,
    detections, facts and maps (strip, width and height of one, words) those that there are.
    """
    return [_present(_image(card)) for card in cards]


def _image(card: Card) -> dict[str, Any]:
    return {
        "id": card.prompt_id,
        "k": card.k,
        "verdict": card.verdict,
        "tag": card.tag,
        "value": card.value,
        "reason": card.reason,
        "rank": card.rank and [card.rank.within, card.rank.of, card.rank.overall, card.rank.of_all],
        "text": [[stretch.kind, stretch.target, stretch.read] for stretch in card.alignment],
        "detections": [_present(_detection(detection)) for detection in card.detections],
        "facts": card.facts,
        "maps": card.strip and [card.strip.url, card.strip.width, card.strip.height, ", ".join(card.strip.words)],
    }


def _detection(detection: Detection) -> dict[str, Any]:
    return {
        "label": detection.label,
        "score": detection.score,
        "box": detection.box,
        "mask": detection.mask and [*detection.mask["size"], detection.mask["counts"]],
        "votes": detection.votes,
    }


def _present(data: dict[str, Any]) -> dict[str, Any]:
    """A score of 0 is there; None, "" and empty lists are not."""
    return {key: value for key, value in data.items() if value is not None and value != "" and value not in ((), [])}
