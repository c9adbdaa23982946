"""What a detector saw, as a page draws it: boxes, masks, and how an object's colour was voted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from star_bench.evaluators.geneval.mask import decode


@dataclass(frozen=True)
class Detection:
    """box is (x1, y1, x2, y2) in the picture's pixels; score is text, empty where there is none.

    mask is {"size": [rows, columns], "counts": COCO's run lengths} of a grid over the box, None where none was kept.
    votes are (colour, share in [0, 1]), the winner first; empty where no colour was judged.
    """

    label: str
    score: str
    box: tuple[float, float, float, float]
    mask: dict[str, Any] | None
    votes: tuple[tuple[str, float], ...]


def detections_of(detail: dict[str, Any]) -> tuple[Detection, ...]:
    """All detections, or none: a list that can't be drawn whole stays among the facts."""
    listed = detail.get("detections")
    try:
        return tuple(map(_detection, listed)) if isinstance(listed, list) else ()
    except ValueError:
        return ()


def _detection(item: Any) -> Detection:
    """Raises ValueError for anything but {"box": [x1, y1, x2, y2], ...}, with a mask and votes as they are written."""
    if not isinstance(item, dict):
        raise ValueError("not a detection")
    box, score, mask = _numbers(item.get("box")), item.get("score"), item.get("mask")
    if len(box) != 4:
        raise ValueError("a box has four edges")
    if mask is not None:
        decode(mask)
        mask = {key: mask[key] for key in ("size", "counts")}
    votes = item.get("votes", {})
    if not isinstance(votes, dict):
        raise ValueError("votes are shares by colour")
    return Detection(
        label=" ".join(str(item[key]) for key in ("color", "class") if item.get(key)),
        score=f"{score:.2f}" if _is_number(score) else "",
        box=(box[0], box[1], box[2], box[3]),
        mask=mask,
        votes=tuple(zip(votes, _numbers(list(votes.values())), strict=True)),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers(values: Any) -> list[float]:
    """Raises ValueError for anything but a list of numbers."""
    if not isinstance(values, list) or not all(map(_is_number, values)):
        raise ValueError("not a list of numbers")
    return [float(value) for value in values]
