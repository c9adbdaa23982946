"""Scores to results: what fails is in no mean, and a prompt with a failure has not all images right."""

from typing import Any

from star_bench.catalogue.suites import load
from star_bench.evaluators.base import Aggregate, Evaluator, Metric, Prompt, Score
from star_bench.runs.plan import Plan, Subject
from star_bench.runs.summary import summarise

PROMPTS = tuple(Prompt(f"{i:05d}", f"prompt {i}", "ab"[i // 2]) for i in range(4))


class Judge(Evaluator):
    aggregates = (
        Aggregate("overall", "mean of tags", of_tags=True),
        Aggregate("all_images", "all images right", of_prompt=min),
    )

    def prompts(self) -> list[Prompt]:
        return list(PROMPTS)

    def score(self, images: Any, prompts: Any) -> list[Score]:
        return [Score(1.0) for _ in images]


def results(values: list[list[float | None]]) -> dict[str, Any]:
    card = load("geneval-miniature")
    metric = Metric("m", "i", "1", "u", (0, 1), "MIT", "")
    plan = Plan(Subject("m", "d", "MIT", foreign=True), card, metric, {}, PROMPTS, 5, 2, None)
    rows = {
        (prompt.id, k): {"status": "ok" if value is not None else "corrupt", "value": value, "detail": {}}
        for prompt, row in zip(PROMPTS, values, strict=True)
        for k, value in enumerate(row)
    }
    return summarise(plan, Judge(card), rows, canaries=0)


def test_denominators_and_aggregates() -> None:
    found = results([[1, 1], [1, None], [0, 0], [1, 0]])
    assert not found["complete"] and found["counts"]["ok"] == 7 and found["counts"]["corrupt"] == 1
    assert found["subset"] == {"limit": 4, "of": 5}
    overall, every = found["aggregates"]
    assert (overall["value"], overall["n_images"]) == (0.625, 7)  # tag a: 3 of 3, tag b: 1 of 4
    assert (every["value"], every["n_prompts"]) == (round(1 / 3, 6), 3)
    assert [tag["value"] for tag in found["tags"]] == [1.0, 0.25]


def test_a_run_without_any_score_has_no_number() -> None:
    found = results([[None, None]] * 4)
    assert [a["value"] for a in found["aggregates"]] == [None, None] and not found["complete"]
