"""GenEval's verdict on one picture, and the partial-credit reward beside it.

Rules and reason strings: djghosh13/geneval at af4902f (evaluate_images.py), restated. Positions are computed in
float32, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from star_bench.evaluators.geneval.prompts import COLORS

POSITION_THRESHOLD = 0.1  # official


@dataclass(frozen=True)
class DetectedObject:
    """box is float32 (x1, y1, x2, y2) in pixels; index is its row among the picture's detections."""

    name: str
    score: float
    box: np.ndarray
    index: int = -1


@dataclass(frozen=True)
class Verdict:
    """correct, GenEval's reason lines, and the partial credit in [0, 1] that training uses."""

    correct: bool
    reason: str
    partial: float


Found = dict[str, list[DetectedObject]]
"""Class name -> kept detections, the most confident first."""
ColorOf = Callable[[Sequence[DetectedObject]], list[str]]
"""Objects of one class -> a colour for each."""


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


def _color_clause(clause: dict[str, Any], objects: list[DetectedObject], colors: list[str]) -> tuple[bool, str]:
    color, count, name = clause["color"], clause["count"], clause["class"]
    matching = colors.count(color)
    if matching >= count:
        return True, ""
    others = ", ".join(f"{colors.count(c)} {c}" for c in COLORS if c in colors)
    return False, f"expected {color} {name}>={count}, found {matching} {color}; and {others}"


def judge(metadata: dict[str, Any], found: Found, color_of: ColorOf) -> Verdict:
    """The official verdict on a metadata row, and the partial credit.

    Partial credit per clause: 1 - |n - found| / n over all kept detections; then, where a colour is asked,
    1 - |n - coloured| / n; where a position is asked, 1 or 0; averaged over all terms.
    """
    correct, reasons, credits = True, [], []
    matched: list[list[DetectedObject] | None] = []
    for clause in metadata.get("include", []):
        name, count = clause["class"], clause["count"]
        kept = found.get(name, [])
        objects = kept[:count]
        good = len(objects) >= count
        credits.append(max(0.0, 1 - abs(count - len(kept)) / count))
        if not good:
            reasons.append(f"expected {name}>={count}, found {len(objects)}")
        if "color" in clause:
            colors = color_of(kept) if kept else []
            credits.append(max(0.0, 1 - abs(count - colors.count(clause["color"])) / count))
            if good:
                good, reason = _color_clause(clause, objects, colors[:count])
                reasons += [reason] if reason else []
        if "position" in clause:
            expected, target_index = clause["position"]
            targets = matched[target_index]
            holds = False
            if targets is None:
                if good:
                    reasons.append(f"no target for {name} to be {expected}")
            elif objects:
                seen = [relations(o.box, t.box) for o in objects for t in targets]
                holds = all(expected in s for s in seen)
                if good and not holds:
                    wrong = next(s for s in seen if expected not in s)
                    reasons.append(f"expected {name} {expected} target, found {' and '.join(sorted(wrong))} target")
            credits.append(float(holds))
            good = good and holds
        correct = correct and good
        matched.append(objects if good else None)
    for clause in metadata.get("exclude", []):
        number = len(found.get(clause["class"], []))
        if number >= clause["count"]:
            correct = False
            reasons.append(f"expected {clause['class']}<{clause['count']}, found {number}")
    return Verdict(correct, "\n".join(reasons), float(np.mean(credits)) if credits else float(correct))
