"""GenEval's verdict on one picture, and the strict verdict and partial credit that training uses.

Rules and reason strings: djghosh13/geneval at af4902f (evaluate_images.py), restated. The strict ones:
yifan123/reward-server at 7131478 (gen_eval.py), restated with the differences that `judge_strictly` names. Positions
are computed in float32, as in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from star_bench.evaluators.geneval.prompts import COLORS

POSITION_THRESHOLD = 0.1  # official


@dataclass(frozen=True, eq=False)
class DetectedObject:
    """box is float32 (x1, y1, x2, y2) in pixels; index is its row among the picture's detections.

    Two objects are equal only if they are the same one: boxes may coincide.
    """

    name: str
    score: float
    box: np.ndarray
    index: int = -1


@dataclass(frozen=True)
class Verdict:
    """reason holds a line for each clause that is not good; correct means that there is none."""

    correct: bool
    reason: str


@dataclass(frozen=True)
class StrictVerdict:
    """credit is in [0, 1], and 1 exactly where correct."""

    correct: bool
    credit: float


Found = dict[str, list[DetectedObject]]
"""Class name -> kept detections, the most confident first."""
ColorOf = Callable[[Sequence[DetectedObject]], list[str]]
"""Objects of one class -> a colour for each."""
Matched = list[list[DetectedObject] | None]
"""For each clause so far its objects, or None where it failed."""


def relations(a: np.ndarray, b: np.ndarray, threshold: float = POSITION_THRESHOLD) -> set[str]:
    """How box `a` lies to box `b`: a subset of left of, right of, above, below (two at once are possible)."""
    corners = np.array([a, b], np.float32).reshape(2, 2, 2)
    (center_a, center_b), (size_a, size_b) = corners.mean(axis=1), np.abs(np.diff(corners, axis=1))[:, 0]
    offset = center_a - center_b
    revised = np.maximum(np.abs(offset) - np.float32(threshold) * (size_a + size_b), 0) * np.sign(offset)
    if np.all(np.abs(revised) < 1e-3):
        return set()
    dx, dy = revised / np.linalg.norm(offset)
    table = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return {name for name, holds in table.items() if holds}


def _wrong_relation(expected: str, objects: list[DetectedObject], targets: list[DetectedObject]) -> set[str] | None:
    """How the first pair stands that does not stand as expected; None where all do."""
    seen = (relations(o.box, target.box) for o in objects for target in targets)
    return next((there for there in seen if expected not in there), None)


def _fault(clause: dict[str, Any], objects: list[DetectedObject], matched: Matched, color_of: ColorOf) -> str:
    """The reason line of an include clause, whose at most `count` objects are given; empty where it is good."""
    name, count = clause["class"], clause["count"]
    if len(objects) < count:
        return f"expected {name}>={count}, found {len(objects)}"
    if "color" in clause:
        color, colors = clause["color"], color_of(objects)
        if (number := colors.count(color)) < count:
            seen = ", ".join(f"{colors.count(c)} {c}" for c in COLORS if c in colors)
            return f"expected {color} {name}>={count}, found {number} {color}; and {seen}"
    if "position" in clause:
        expected, target = clause["position"]
        if (targets := matched[target]) is None:
            return f"no target for {name} to be {expected}"
        if (wrong := _wrong_relation(expected, objects, targets)) is not None:
            # Sorted, since the original joins a set, whose order changes from run to run.
            return f"expected {name} {expected} target, found {' and '.join(sorted(wrong))} target"
    return ""


def judge(metadata: dict[str, Any], found: Found, color_of: ColorOf) -> Verdict:
    """The official verdict on a metadata row.

    `color_of` is asked only for the `count` most confident objects of a clause, and only where there are as many.
    """
    reasons: list[str] = []
    matched: Matched = []
    for clause in metadata.get("include", []):
        objects = found.get(clause["class"], [])[: clause["count"]]
        fault = _fault(clause, objects, matched, color_of)
        matched.append(None if fault else objects)
        if fault:
            reasons.append(fault)
    for clause in metadata.get("exclude", []):
        name, count = clause["class"], clause["count"]
        if (number := len(found.get(name, []))) >= count:
            reasons.append(f"expected {name}<{count}, found {number}")
    return Verdict(not reasons, "\n".join(reasons))


def _closeness(count: int, number: int) -> float:
    return max(0.0, 1 - abs(count - number) / count)


def _terms(clause: dict[str, Any], objects: list[DetectedObject], matched: Matched, color_of: ColorOf) -> list[float]:
    """An include clause's terms of the credit; it is strictly good where all are 1."""
    count = clause["count"]
    terms = [_closeness(count, len(objects))]
    if len(objects) != count:
        return terms + ([0.0] if "color" in clause or "position" in clause else [])
    if "color" in clause:
        terms.append(_closeness(count, color_of(objects).count(clause["color"])))
    if "position" in clause:
        expected, target = clause["position"]
        targets = matched[target] if min(terms) == 1 else None
        terms.append(float(targets is not None and _wrong_relation(expected, objects, targets) is None))
    return terms


def _is_covered(excluded: dict[str, Any], include: Sequence[dict[str, Any]]) -> bool:
    """Whether an include clause's exact count leaves no room for what is excluded."""
    return any(clause["class"] == excluded["class"] and clause["count"] < excluded["count"] for clause in include)


def judge_strictly(metadata: dict[str, Any], found: Found, color_of: ColorOf) -> StrictVerdict:
    """Flow-GRPO's strict verdict on a metadata row with at least one include clause, and its partial credit.

    A clause is strictly good with exactly `count` objects, all of them in its colour and its relation. GenEval itself
    excludes only one object more of a class that it includes, which the exact count covers, and so neither it nor the
    original has a term for that. The credit is the mean of all clauses' terms:

    * 1 - |count - number| / count, at least 0;
    * with another number than `count`, one 0 where a colour or a position is asked;
    * else where a colour is asked, the same of the number with that colour;
    * and where a position is asked, 1 if the clause is good up to here, so is its target and all stand as asked,
      else 0;
    * for an exclude clause that no exact count covers, 1 below its count, else 1 - (number - count + 1) / count, at
      least 0 (chosen here: the original does not look at these).

    Three differences from the original are deliberate. There the first term falls below 0 from 2 count + 1 objects
    on. A wrong relation adds a 0 and also a 1. A wrong colour leaves out the term of the position (no official prompt
    asks both of one clause).
    """
    terms: list[float] = []
    matched: Matched = []
    for clause in metadata["include"]:
        objects = found.get(clause["class"], [])
        new = _terms(clause, objects, matched, color_of)
        matched.append(objects if min(new) == 1 else None)
        terms += new
    for clause in metadata.get("exclude", []):
        if not _is_covered(clause, metadata["include"]):
            name, count = clause["class"], clause["count"]
            terms.append(max(0.0, 1 - max(0, len(found.get(name, [])) - count + 1) / count))
    return StrictVerdict(min(terms) == 1, float(np.mean(terms)))


def needs_color(metadata: dict[str, Any], found: Found) -> list[DetectedObject]:
    """The objects, each once, whose colour `judge` asks; `judge_strictly` asks no other's.

    So that a caller can classify the crops of many pictures in one batch.
    """
    asked: dict[DetectedObject, None] = {}  # a set that keeps the order
    for clause in metadata.get("include", []):
        objects = found.get(clause["class"], [])
        if "color" in clause and len(objects) >= clause["count"]:
            asked.update(dict.fromkeys(objects[: clause["count"]]))
    return list(asked)
