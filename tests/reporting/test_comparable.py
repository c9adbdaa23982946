"""Two runs are compared, or told apart in words by the first thing that is not the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star_bench.analysis.comparable import Part, check_comparable, differences
from star_bench.catalogue.protocol import Protocol
from star_bench.errors import Incomplete, Refused, UsageError
from star_bench.evaluators.base import Metric, Prompt
from star_bench.runs.finished import RunFiles, read_run
from star_bench.runs.references import find

Made = Callable[..., Path]
VALUES = np.full((6, 2), 0.5)
METRIC = Metric("Brightness", "drawn", "1", "share of white", (0.0, 1.0), "MIT", "")


def pair(made: Made, **changed: Any) -> tuple[RunFiles, RunFiles]:
    return read_run(made(VALUES)), read_run(made(VALUES, model="after", **changed))


def told_apart(first: RunFiles, second: RunFiles, part: Part, field: str) -> str:
    """The refusal, after a look at the first difference as plain data."""
    found = differences(first, second)[0]
    assert (found.part, found.field) == (part, field)
    with pytest.raises(Refused) as refused:
        check_comparable(first, second)
    said = str(refused.value)
    assert refused.value.exit_code == 4 and "\n" not in said
    assert str(first.folder) in said and str(second.folder) in said
    assert found.first in said and found.second in said
    return said


def test_another_model_is_what_one_compares(made: Made) -> None:
    first, second = pair(made)
    assert first.results.model.digest != second.results.model.digest
    assert differences(first, second) == []
    check_comparable(first, second)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Darkness"),
        ("implementation", "another engine"),
        ("unit", "0 to 255"),
        ("version", "2"),
    ],
)
def test_each_part_of_the_metric_identity(made: Made, field: str, value: str) -> None:
    metric = dataclasses.replace(METRIC, **{field: value})  # type: ignore[arg-type]
    said = told_apart(*pair(made, metric=metric), Part.METRIC, field)
    assert f"the metric's {field} ({getattr(METRIC, field)!r} in the first and {value!r} in the second)" in said


def test_judges_by_their_digests(made: Made) -> None:
    said = told_apart(*pair(made, judges={"eye": "b" * 64}), Part.METRIC, "judge eye")
    assert "judge eye (aaaaaaaaaaaa in the first and bbbbbbbbbbbb in the second)" in said
    said = told_apart(*pair(made, judges={"eye": "a" * 64, "ear": "x2 bicubic"}), Part.METRIC, "judge ear")
    assert "(none in the first and 'x2 bicubic' in the second)" in said


def test_settings_of_a_judge_count_and_the_place_of_its_weights_does_not(made: Made) -> None:
    def card(place: str, threshold: float) -> dict[str, Any]:
        return {"judges": {"measures": [{"weights": {"path": place}, "licence": place, "threshold": threshold}]}}

    first = read_run(made(VALUES, card=card("/here", 0.3)))
    assert differences(first, read_run(made(VALUES, card=card("/elsewhere", 0.3), model="after"))) == []
    other = read_run(made(VALUES, card=card("/here", 0.9), model="after"))
    said = told_apart(first, other, Part.METRIC, "judges.measures.0.threshold")
    assert "differ in judges.measures.0.threshold (0.3 in the first and 0.9 in the second)" in said


def test_a_panel_with_another_measure(made: Made, kinds: dict[str, Any]) -> None:
    class Newer(kinds["panel"]):  # type: ignore[misc]
        def measures(self) -> list[dict[str, Any]]:
            return [{**about, "version": "2"} for about in super().measures()]

    runs = [read_run(made(VALUES, kind=kind, card={"name": "panel"})) for kind in (kinds["panel"], Newer)]
    told_apart(*runs, Part.METRIC, "measure Glow")


def test_another_suite(made: Made) -> None:
    told_apart(*pair(made, card={"name": "other"}), Part.PROMPTS, "suite")


def but(**changed: Any) -> Callable[[list[Prompt]], list[Prompt]]:
    """The same prompts, the fourth changed."""
    return lambda prompts: [dataclasses.replace(p, **changed) if p.id == "00003" else p for p in prompts]


@pytest.mark.parametrize(
    ("prompts", "field", "words"),
    [
        (lambda prompts: prompts[:4], "prompts", "has 6 prompts and the second 4 prompts, one a subset of the other"),
        (but(id="x"), "prompts", "the prompts differ: 1 are only in the first and 1 only in the second"),
        (
            but(text="new"),
            "prompt text",
            "the text of prompt '00003' ('prompt 3' in the first and 'new' in the second)",
        ),
        (but(tag="new"), "prompt tag", "('tag 0' in the first and 'new' in the second)"),
        (but(metadata={"n": 9}), "prompt metadata", "({'n': 3} in the first and {'n': 9} in the second)"),
    ],
    ids=["subset", "other", "text", "tag", "metadata"],
)
def test_each_way_to_have_other_prompts(made: Made, prompts: Any, field: str, words: str) -> None:
    first, second = pair(made, prompts=prompts)
    assert [each.field for each in differences(first, second)] == [field]
    with pytest.raises(Refused) as refused:
        check_comparable(first, second)
    assert words in str(refused.value)


def test_one_difference_for_any_number_of_prompts(made: Made) -> None:
    def renamed(prompts: list[Prompt]) -> list[Prompt]:
        return [dataclasses.replace(prompt, text="new") for prompt in prompts]

    (found,) = differences(*pair(made, prompts=renamed))
    assert "prompt '00000' (and 5 more)" in found.words


CHANGED = {"negative_prompt": "blurry", "dtype": "float16", "device": "cuda", "scheduler": "euler"}


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Protocol) if f.name != "samples"])
def test_each_field_of_the_protocol(made: Made, field: str) -> None:
    value = CHANGED.get(field, 48)
    said = told_apart(*pair(made, **{field: value}), Part.PROTOCOL, field)
    assert f"differ in {field} (" in said and f"{value!r} in the second" in said and "settings" in said


def test_images_per_prompt(made: Made) -> None:
    first, second = read_run(made(VALUES)), read_run(made(np.full((6, 3), 0.5), model="after"))
    assert "number of images per prompt (2 in the first and 3 in" in told_apart(first, second, Part.PROTOCOL, "samples")


def test_pictures_made_elsewhere_compare_among_themselves_only(made: Made) -> None:
    ours, theirs = pair(made, foreign=True)
    said = told_apart(ours, theirs, Part.PROTOCOL, "origin of the images")
    assert "('star-bench' in the first and 'foreign' in the second)" in said
    assert differences(theirs, read_run(made(VALUES, model="more", foreign=True))) == []


def test_a_missing_score_is_incomplete_and_comes_last(made: Made) -> None:
    first, second = pair(made, contrast=0.0)  # flat pictures are degenerate
    with pytest.raises(Incomplete, match=r"12 of 12 in the first and 0 of 12 in the second") as incomplete:
        check_comparable(first, second)
    assert incomplete.value.exit_code == 3
    third = read_run(made(VALUES, model="third", contrast=0.0, seed=1))
    assert [found.field for found in differences(first, third)] == ["seed", "scores"]


def test_a_run_is_named_by_its_folder_or_its_results(made: Made, tmp_path: Path) -> None:
    folder = made(VALUES)
    assert find(folder) == find(folder / "results.json") == folder
    with pytest.raises(UsageError, match="no run directory"):
        find(tmp_path)
