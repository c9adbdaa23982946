"""The images of a run as cards: picture, prompt, verdict, and what the judge saw."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from star_bench.analysis.numbers import number
from star_bench.evaluators.base import Status
from star_bench.reporting.gallery.alignment import Stretch, alignment_of
from star_bench.reporting.gallery.detections import Detection, detections_of
from star_bench.reporting.gallery.ranks import Rank, ranks
from star_bench.reporting.gallery.thumbnails import Picture, read_picture
from star_bench.reporting.masks.steps import Strip, read_step_maps, read_strip
from star_bench.runs.finished import Results, RunFiles, RunImage

LONGEST_FACT = 300
"""Characters of one detail; scores.jsonl has the whole of it (chosen here)."""


@dataclass(frozen=True)
class Card:
    """One image for the page. verdict is passed, failed, scored, or why there is no score.

    rank is None for a metric that passes or fails, and without a score; read and alignment are empty for all but texts.
    """

    prompt: str
    prompt_id: str
    tag: str
    k: int
    status: str
    verdict: str
    value: float | None
    picture: Picture | None
    reason: str
    rank: Rank | None
    read: str
    alignment: tuple[Stretch, ...]
    detections: tuple[Detection, ...]
    facts: tuple[tuple[str, str], ...]
    strip: Strip | None = None
    """Its allocation maps, where the run has them."""

    @property
    def score(self) -> str:
        """The value with four decimals; a failure has no number."""
        return "no score" if self.value is None else number(self.value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        text = f"{value:.4f}"
    elif isinstance(value, str):
        text = value
    elif isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
        text = ", ".join(map(_text, value))
    else:
        text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_FACT else text[:LONGEST_FACT] + "…"


def _facts(detail: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """(name, text). A panel's measures are facts of their own, its features nothing that a person could read."""
    measures = detail.get("measures")
    if isinstance(measures, dict):
        detail = measures | {key: value for key, value in detail.items() if key != "measures"}
    return tuple((key.replace("_", " "), _text(value)) for key, value in detail.items() if key != "features")


def is_binary(run: RunFiles) -> bool:
    """A metric that only ever gave its lowest or highest value passes or fails; any other scores."""
    return all(image.value in (0, 1, None) for image in run.images) and run.results.metric.range == (0, 1)


def _is_ranked(results: Results) -> bool:
    """Whether a higher score is a better one: always, but for a description."""
    headline = results.aggregates[0].name
    return all(measure.better == "higher" for measure in results.measures if measure.name == headline)


def _verdict(image: RunImage, *, binary: bool) -> str:
    if image.status is not Status.OK:
        return image.status.value
    if not binary:
        return "scored"
    return "passed" if image.value else "failed"


def cards(run: RunFiles) -> Iterator[Card]:
    """A card per image, in the run's order; pictures are read one at a time.

    Raises Refused for pictures that changed since they were scored or lie outside the run.
    """
    binary = is_binary(run)
    ranked = [None] * len(run.images) if binary or not _is_ranked(run.results) else ranks(run.images)
    maps = read_step_maps(run)
    for image, rank in zip(run.images, ranked, strict=True):
        card = card_of(run, image, binary=binary, rank=rank)
        strip = read_strip(run, maps, (image.prompt.id, image.k)) if maps and card.picture else None
        yield replace(card, strip=strip)


def card_of(run: RunFiles, image: RunImage, *, binary: bool, rank: Rank | None = None) -> Card:
    """One image's card, with its picture read. binary: as of `is_binary`. Raises Refused as `cards` does."""
    detail = image.score.detail if image.score else {"reason": "no score was recorded"}
    # What is corrupt is not what was made, so it is not shown.
    shown = image.sample if image.status is not Status.CORRUPT else None
    detections = detections_of(detail)
    alignment = alignment_of(detail)
    # A judge gives its reason, the runner the error that kept an image from being judged.
    why = "reason" if detail.get("reason") else "error"
    apart = {"reason", why, "detections"} if detections else {"reason", why}
    return Card(
        prompt=image.prompt.text,
        prompt_id=image.prompt.id,
        tag=image.prompt.tag,
        k=image.k,
        status=image.status.value,
        verdict=_verdict(image, binary=binary),
        value=image.value,
        picture=read_picture(run.pictures, shown),
        reason=_text(detail.get(why) or ""),
        rank=rank,
        read=_text("".join(detail["read"])) if alignment else "",
        alignment=alignment,
        detections=detections,
        facts=_facts({key: value for key, value in detail.items() if key not in apart}),
    )
