"""Verdicts recomputed from recorded detections."""

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from star_bench.evaluators.geneval.official_results import ResultRow, to_line
from star_bench.evaluators.geneval.prompts import counting_row, official, row
from star_bench.evaluators.geneval.rescore import rescore, warnings
from star_bench.evaluators.geneval.verdict import DetectedObject, Found

PLACES = {"left of": (-100, 0), "right of": (100, 0), "above": (0, -100), "below": (0, 100)}


def thing(name: str, x: float, y: float, score: float = 0.95) -> DetectedObject:
    return DetectedObject(name, score, np.array([x - 5, y - 5, x + 5, y + 5], np.float32))


def perfect(metadata: dict[str, Any]) -> Found:
    """Detections that show what the row asks for."""
    found: Found = {}
    for clause in metadata["include"]:
        side, _ = clause.get("position", (None, None))
        x, y = PLACES.get(side, (0, 0))
        found.setdefault(clause["class"], []).extend(thing(clause["class"], x, y) for _ in range(clause["count"]))
    return found


def result(metadata: dict[str, Any], *, correct: bool = True, reason: str = "", **changes: Any) -> ResultRow:
    details = changes.pop("details", None)
    return ResultRow(
        filename=changes.pop("filename", "0.png"),
        tag=metadata["tag"],
        prompt=metadata["prompt"],
        correct=correct,
        reason=reason,
        metadata=metadata,
        details=perfect(metadata) if details is None else details,
        **changes,
    )


@cache
def official_results() -> tuple[ResultRow, ...]:
    """Two images of every official prompt, all right."""
    return tuple(
        result(metadata, filename=f"{i:05d}/samples/{k:04d}.png")
        for i, metadata in enumerate(official())
        for k in range(2)
    )


TWO_DOGS = counting_row("dog", 2)
RED_CAR = row("colors", [{"class": "car", "count": 1, "color": "red"}])
DOG_LEFT_OF_BEAR = row(
    "position", [{"class": "bear", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}]
)
# No official row mixes: one clause with a colour, one without, and one that is excluded.
MIXED = {
    "tag": "mixed",
    "include": [
        {"class": "car", "count": 1, "color": "red"},
        {"class": "dog", "count": 1, "position": ["left of", 0]},
    ],
    "exclude": [{"class": "cat", "count": 1}],
    "prompt": "a photo of a dog left of a red car, and no cat",
}


def test_a_true_official_file_stays_as_it_is() -> None:
    rescored = rescore(official_results())
    assert [to_line(r) for r in rescored.rows] == [to_line(r) for r in official_results()]
    summary = rescored.summary()
    tags = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}
    assert summary == {
        "rows": 1106,
        "prompts": 553,
        "recomputed": 718,
        "taken_over": 388,
        "changed": [],
        "contradictions": [],
        "overall": 1.0,
        "image_mean": 1.0,
        "all_images": 1.0,
        "tags": {tag: {"value": 1.0, "images": 2 * number} for tag, number in tags.items()},
        "official_prompts_missing": 0,
        "missing_prompts": [],
        "repeated_rows": [],
        "images_per_prompt": {"min": 2, "max": 2},
        "complete": True,
    }
    assert list(summary["tags"]) == list(tags)
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize("metadata", [TWO_DOGS, DOG_LEFT_OF_BEAR], ids=lambda m: m["tag"])
def test_a_tampered_row_is_flipped_back(metadata: dict[str, Any]) -> None:
    blamed = result(metadata, correct=False, reason="expected unicorn>=1, found 0")
    assert [(r.correct, r.reason) for r in rescore([blamed]).rows] == [(True, "")]
    praised = result(metadata, details={"cat": [thing("cat", 0, 0)]}, filename="1.png")
    rescored = rescore([blamed, praised])
    new = rescored.rows[1]
    assert not new.correct
    assert new.reason.startswith(f"expected {metadata['include'][0]['class']}>=")
    assert rescored.summary()["changed"] == [
        {"filename": "0.png", "was": False, "now": True, "reason": ""},
        {"filename": "1.png", "was": True, "now": False, "reason": new.reason},
    ]
    assert (rescored.summary()["recomputed"], rescored.summary()["taken_over"]) == (2, 0)


def test_only_the_verdict_is_new() -> None:
    old = result(DOG_LEFT_OF_BEAR, correct=False, reason="expected dog left of target, found left of target")
    assert rescore([old]).rows == [replace(old, correct=True, reason="")]


def test_detections_are_taken_in_their_order_and_whatever_their_score() -> None:
    first, best = thing("dog", 100, 0, score=0.01), thing("dog", -100, 0, score=0.99)
    details = {"bear": [thing("bear", 0, 0)], "dog": [first, best]}
    (new,) = rescore([result(DOG_LEFT_OF_BEAR, details=details)]).rows
    assert new.reason == "expected dog left of target, found right of target"


def test_a_new_reason_alone_is_no_change() -> None:
    """The original joins relations in an order of its own."""
    details = {"bear": [thing("bear", 0, 0)], "dog": [thing("dog", 100, -100)]}
    old = "expected dog left of target, found right of and above target"
    rescored = rescore([result(DOG_LEFT_OF_BEAR, details=details, correct=False, reason=old)])
    assert rescored.rows[0].reason == "expected dog left of target, found above and right of target"
    assert rescored.changed == []


@pytest.mark.parametrize(("correct", "reason"), [(True, ""), (False, "expected red car>=1, found 0 red; and 1 blue")])
def test_a_row_of_colors_is_taken_over(correct: bool, reason: str) -> None:
    old = result(RED_CAR, correct=correct, reason=reason)
    rescored = rescore([old])
    assert rescored.rows == [old]
    assert (rescored.taken_over, rescored.changed, rescored.contradictions) == (1, [], [])


def test_a_contradiction_keeps_its_verdict_and_is_listed() -> None:
    old = result(RED_CAR, details={}, filename="no-car.png")
    wrong = result(RED_CAR, details={}, correct=False, reason="expected car>=1, found 0", filename="wrong.png")
    rescored = rescore([old, wrong])
    assert rescored.rows == [old, wrong]
    assert rescored.summary()["contradictions"] == ["no-car.png"]
    assert rescored.summary()["taken_over"] == 2


@pytest.mark.parametrize(
    ("seen", "correct", "reason"),
    [
        ({"car": (0, 0), "dog": (-100, 0)}, True, ""),
        ({"car": (0, 0), "dog": (100, 0)}, False, "expected dog left of target, found right of target"),
        ({"car": (0, 0)}, False, "expected dog>=1, found 0"),
        ({"car": (0, 0), "dog": (-100, 0), "cat": (0, 0)}, False, "expected cat<1, found 1"),
    ],
)
def test_what_has_no_color_is_recomputed_beside_what_has(
    seen: dict[str, tuple[int, int]], correct: bool, reason: str
) -> None:
    details = {name: [thing(name, *place)] for name, place in seen.items()}
    right = rescore([result(MIXED, details=details)])
    assert [(r.correct, r.reason) for r in right.rows] == [(correct, reason)]
    assert right.taken_over == 1
    wrong = result(MIXED, details=details, correct=False, reason="expected red car>=1, found 0 red; and 1 blue")
    assert rescore([wrong]).rows == [wrong]


def test_the_scores() -> None:
    """counting 1/4 of four images, colors 1/1: the overall weighs tags alike, the image mean images."""
    three = counting_row("dog", 3)
    rows = [
        result(TWO_DOGS, filename="a"),
        result(TWO_DOGS, filename="b", details={}),
        result(three, filename="c", details={}),
        result(three, filename="d", details={}),
        result(RED_CAR, filename="e"),
    ]
    summary = rescore(rows).summary()
    assert summary["tags"] == {"counting": {"value": 0.25, "images": 4}, "colors": {"value": 1.0, "images": 1}}
    assert summary["overall"] == 0.625
    assert summary["image_mean"] == pytest.approx(0.4)
    assert summary["all_images"] == pytest.approx(1 / 3)
    assert summary["images_per_prompt"] == {"min": 1, "max": 2}


def test_an_incomplete_official_set_is_reported() -> None:
    """544 of 553 prompts were published once, unseen."""
    kept = {json.dumps(metadata) for metadata in official()[:544]}
    summary = rescore([r for r in official_results() if json.dumps(r.metadata) in kept]).summary()
    assert (summary["prompts"], summary["official_prompts_missing"], summary["complete"]) == (544, 9, False)


def test_a_missing_image_is_reported() -> None:
    summary = rescore(official_results()[1:]).summary()
    assert summary["official_prompts_missing"] == 0
    assert summary["images_per_prompt"] == {"min": 1, "max": 2}
    assert summary["complete"] is False


def test_other_prompts_are_never_called_complete() -> None:
    summary = rescore([*official_results(), result(MIXED)] * 2).summary()
    assert (summary["official_prompts_missing"], summary["complete"]) == (None, None)
    assert list(summary["tags"])[-1] == "mixed"


@pytest.mark.parametrize("change", [{}, {"index": 7, "caption": "long"}, {"prompt": "in soft light, it"}])
def test_lost_prompts_are_named_whatever_else_the_metadata_say(change: dict[str, Any]) -> None:
    """Rows are told apart by what they ask for, as BAGEL's long captions keep it."""
    rows = [replace(each, metadata={**each.metadata, **change}) for each in official_results()[20:]]
    summary = rescore(rows).summary()
    assert (summary["prompts"], summary["official_prompts_missing"], summary["complete"]) == (543, 10, False)
    assert summary["missing_prompts"] == [metadata["prompt"] for metadata in official()[:10]]
    assert any(
        "10 of GenEval's 553 prompts" in told and repr(official()[0]["prompt"]) in told for told in warnings(summary)
    )


def test_rows_that_stand_twice_are_named() -> None:
    rows = official_results()
    summary = rescore([*rows, rows[3], rows[3], rows[8]]).summary()
    assert summary["repeated_rows"] == [rows[3].filename, rows[8].filename]
    assert summary["complete"] is False
    assert any(told.startswith("2 images stand on more than one row") for told in warnings(summary))
