"""GenEval's rules, tag by tag."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_bench.evaluators.geneval.verdict import DetectedObject, Verdict, judge, relations


def at(name: str, x: float, y: float, side: float = 10, color: str = "red") -> tuple[DetectedObject, str]:
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], np.float32)
    return DetectedObject(name, 0.95, box), color


def verdict(metadata: dict[str, Any], *objects: tuple[DetectedObject, str]) -> Verdict:
    found: dict[str, list[DetectedObject]] = {}
    for thing, _ in objects:
        found.setdefault(thing.name, []).append(thing)
    colors = {id(thing): color for thing, color in objects}

    def color_of(asked: Sequence[DetectedObject]) -> list[str]:
        return [colors[id(thing)] for thing in asked]

    return judge(metadata, found, color_of)


def clause(name: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"class": name, "count": count, **more}


def test_missing_object() -> None:
    result = verdict({"include": [clause("dog"), clause("cat")]}, at("dog", 0, 0))
    assert (result.correct, result.reason, result.partial) == (False, "expected cat>=1, found 0", 0.5)


def test_counting_fails_on_one_too_many() -> None:
    metadata = {"include": [clause("dog", 2)], "exclude": [clause("dog", 3)]}
    assert verdict(metadata, at("dog", 0, 0), at("dog", 30, 0)).correct
    result = verdict(metadata, *(at("dog", 30 * i, 0) for i in range(3)))
    assert (result.correct, result.reason, result.partial) == (False, "expected dog<3, found 3", 0.5)


def test_color_looks_at_the_most_confident_only() -> None:
    metadata = {"include": [clause("car", color="red")]}
    result = verdict(metadata, at("car", 0, 0, color="blue"), at("car", 30, 0, color="red"))
    assert (result.correct, result.reason) == (False, "expected red car>=1, found 0 red; and 1 blue")


@pytest.mark.parametrize(
    ("x", "y", "side"), [(-50, 0, "left of"), (50, 0, "right of"), (0, -50, "above"), (0, 50, "below")]
)
def test_position_each_way(x: float, y: float, side: str) -> None:
    metadata = {"include": [clause("bear"), clause("dog", position=[side, 0])]}
    assert verdict(metadata, at("bear", 0, 0), at("dog", x, y)).correct
    result = verdict(metadata, at("bear", 0, 0), at("dog", -x, -y))
    assert not result.correct
    assert result.reason.startswith(f"expected dog {side} target, found ")
    assert result.partial == pytest.approx(2 / 3)


def test_position_without_its_target() -> None:
    metadata = {"include": [clause("bear"), clause("dog", position=["above", 0])]}
    result = verdict(metadata, at("dog", 0, 0))
    assert result.reason == "expected bear>=1, found 0\nno target for dog to be above"


def test_diagonals_are_two_relations_and_equal_centres_none() -> None:
    a, b = np.array([0, 0, 10, 10.0]), np.array([40, 40, 50, 50.0])
    assert relations(a, b) == {"left of", "above"}
    assert relations(a, a) == set()


def test_near_objects_have_no_relation() -> None:
    a, b = np.array([0, 0, 10, 10.0]), np.array([1.9, 0, 11.9, 10.0])
    assert relations(a, b) == set()


boxes = st.tuples(*(st.floats(0, 50) for _ in range(2)), *(st.floats(1, 30) for _ in range(2))).map(
    lambda v: np.array([v[0], v[1], v[0] + v[2], v[1] + v[3]])
)


@given(boxes, boxes)
def test_relations_mirror(a: np.ndarray, b: np.ndarray) -> None:
    mirror = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    assert {mirror[r] for r in relations(a, b)} == relations(b, a)


@given(st.integers(1, 4), st.integers(0, 16))
def test_partial_credit_is_a_share(asked: int, there: int) -> None:
    metadata = {"include": [clause("dog", asked)], "exclude": [clause("dog", asked + 1)]}
    result = verdict(metadata, *(at("dog", 30 * i, 0) for i in range(there)))
    assert 0 <= result.partial <= 1
    assert result.correct == (result.partial == 1) == (asked == there)
