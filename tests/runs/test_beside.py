"""Work beside work: who waits for whom, and what becomes of a judge's begun scores."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from star_bench.catalogue import suites
from star_bench.evaluators.base import Begun, Evaluator, Image, Prompt, Score, Status
from star_bench.runs.beside import ahead, beside
from star_bench.runs.engines.base import Settings
from star_bench.runs.engines.local import LocalEngine
from star_bench.runs.workers import Asked, MakeJudge, finished, judging

PATIENCE = 60.0  # seconds; who waits for what never comes fails


def test_each_is_worked_on_while_the_next_is_made() -> None:
    worked = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for i in range(3):
            yield i
            assert worked[i].wait(PATIENCE), "the work waits for the next item"

    def work(item: int) -> int:
        worked[item].set()
        return item * 10

    assert list(beside(work, items())) == [0, 10, 20]


def test_each_is_made_while_the_one_before_is_used() -> None:
    made = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for i in range(3):
            made[i].set()
            yield i

    for item in ahead(items()):
        assert made[min(item + 1, 2)].wait(PATIENCE), "the next item waits for its use"
    assert list(ahead(range(3))) == [0, 1, 2]
    assert list(ahead([])) == []


def test_what_fails_is_raised_after_what_came_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 0
        raise OSError("no more")

    worked: list[int] = []
    with pytest.raises(OSError, match="no more"):
        worked.extend(ahead(items()))
    assert worked == [1, 0]
    worked.clear()
    with pytest.raises(OSError, match="no more"):
        list(beside(worked.append, items()))
    assert worked == [1, 0]
    with pytest.raises(ZeroDivisionError):
        list(beside(lambda item: 1 // item, [1, 0, 1]))


class Slow(Evaluator):
    """Does not begin with a batch until the verdict on the one before is made."""

    def __init__(self) -> None:
        super().__init__(suites.load("geneval-miniature"))
        self.made = threading.Event()

    def prompts(self) -> list[Prompt]:
        return []

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        raise AssertionError("a run begins, and makes the verdicts elsewhere")

    def begin(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> Sequence[Begun]:
        if prompts[0].id != "0":
            assert self.made.wait(PATIENCE), "the verdict waits for the next batch"
        self.made.clear()

        def verdict() -> Score:
            self.made.set()
            return Score(float(prompts[0].id))

        return [verdict]


def test_verdicts_are_made_beside_the_next_batch() -> None:
    judge = Slow()
    batches: list[list[Asked]] = [[(Prompt(str(i), ""), np.zeros((8, 8, 3), np.uint8))] for i in range(4)]
    begun = LocalEngine(Settings()).score(lambda: judging(judge, print), batches)
    found = list(beside(lambda batch: [finished(one) for one in batch], begun))
    assert [score.value for (score,) in found] == [0, 1, 2, 3]


def test_a_verdict_that_fails_is_an_error_of_its_picture() -> None:
    def broken() -> Score:
        raise KeyError("red")

    for begun in (broken, lambda: 1, lambda: Score(1.0, detail={"what": np.zeros(2)})):
        score = finished(begun)  # type: ignore[arg-type]
        assert score.status is Status.ERROR and score.value is None
    assert finished(broken).detail == {"error": "KeyError: 'red'"}
    assert finished(Score(1.0)) == Score(1.0)


def test_a_judge_elsewhere_sends_scores() -> None:
    card = suites.load("geneval-miniature")
    judge = MakeJudge(card, "cpu")()
    metadata = {"tag": "single_object", "include": [{"class": "cup", "count": 1}]}
    prompt = Prompt("0", "a photo of a cup", "single_object", metadata)
    (score,) = judge([(prompt, np.zeros((64, 64, 3), np.uint8))])
    assert isinstance(score, Score) and score.value == 0
