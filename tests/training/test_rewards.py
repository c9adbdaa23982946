"""Prompts and rewards of an epoch, from the miniature's suites."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_bench.catalogue import suites
from star_bench.errors import UsageError
from star_bench.evaluators.base import Evaluator
from star_bench.runs.engines.base import Settings
from star_bench.runs.engines.local import LocalEngine
from star_bench.runs.workers import make_evaluator
from star_bench.training.recipe import Reward
from star_bench.training.rewards import Asked, Judgement, Rewards, judges_of, shares_of

BOTH = ("geneval-miniature", "preference-miniature")


def evaluators(*names: str) -> list[Evaluator]:
    return [make_evaluator(suites.load(name), "cpu") for name in names]


def rewards(*names: str, weights: tuple[float, ...] = (), **options: Any) -> Rewards:
    of = [Reward(suite=name, weight=weight) for name, weight in zip(names, weights or [1.0] * len(names), strict=True)]
    return made_of(of, evaluators(*names), **options)


def made_of(of: list[Reward], judges: list[Evaluator], **options: Any) -> Rewards:
    return Rewards(of, judges, LocalEngine(Settings()).scorer(lambda: judges_of(of, judges, **options)))


def judged(made: Rewards, images: list[Any], asked: list[Asked], notes: list[str] | None = None) -> list[Judgement]:
    return made.start(images, asked, (notes if notes is not None else []).append)()


def test_an_epochs_prompts_are_a_function_of_seed_and_epoch() -> None:
    made = rewards("geneval-miniature")
    first = made.prompts_of(seed=0, epoch=5, count=16)
    assert first == made.prompts_of(seed=0, epoch=5, count=16)
    assert first != made.prompts_of(seed=0, epoch=6, count=16)
    assert first != made.prompts_of(seed=1, epoch=5, count=16)
    assert len({one.prompt.text for one in first}) == 16


def test_they_are_never_test_prompts() -> None:
    made = rewards(*BOTH)
    for place, evaluator in enumerate(made.evaluators):
        tested = {prompt.text for prompt in evaluator.prompts()}
        assert not tested & {prompt.text for prompt in made.prompts[place]}


def test_weights_are_shares_of_the_prompts() -> None:
    made = rewards(*BOTH, weights=(3.0, 1.0))
    assert Counter(one.suite for one in made.prompts_of(seed=0, epoch=0, count=16)) == {0: 12, 1: 4}


@given(st.integers(1, 60), st.lists(st.floats(0.1, 10), min_size=1, max_size=5), st.integers(0, 99))
def test_shares_add_up_and_are_near_their_weights(count: int, weights: list[float], seed: int) -> None:
    exact = np.array(weights) / sum(weights)
    got = shares_of(count, exact, np.random.default_rng(seed))
    assert sum(got) == count
    assert all(abs(n - count * share) < 1 + 1e-6 for n, share in zip(got, exact, strict=True))


def test_more_prompts_than_there_are_is_refused() -> None:
    with pytest.raises(UsageError, match="different training prompts"):
        rewards("geneval-miniature").prompts_of(seed=0, epoch=0, count=5000)


def test_each_picture_is_judged_by_its_prompts_suite() -> None:
    made = rewards(*BOTH)
    canaries = [evaluator.canaries()[0] for evaluator in made.evaluators]
    asked = [Asked(canary.prompt, place) for place, canary in enumerate(canaries)]
    found = judged(made, [canary.image for canary in canaries], asked)
    assert found[0].reward == 1
    expected = made.evaluators[1].reward([canaries[1].image], [canaries[1].prompt])
    assert found[1].reward == pytest.approx(expected[0])


def test_of_score_is_the_official_verdict() -> None:
    """Three cups where two are asked: no partial credit of 1, and still right by GenEval's rule, but for its exclusion."""
    evaluator = evaluators("geneval-miniature")[0]
    three = next(canary for canary in evaluator.canaries() if canary.prompt.text == "a photo of two cups")
    asked = [Asked(three.prompt, 0)]
    partial = made_of([Reward(suite="geneval-miniature")], [evaluator])
    official = made_of([Reward(suite="geneval-miniature", of="score")], [evaluator])
    assert judged(partial, [three.image], asked)[0].reward == pytest.approx(0.5)
    assert judged(official, [three.image], asked)[0].reward == 0


def test_a_picture_that_could_not_be_decoded_has_no_reward() -> None:
    made = rewards("geneval-miniature")
    canary = made.evaluators[0].canaries()[0]
    found = judged(made, [None, canary.image], [Asked(canary.prompt, 0)] * 2)
    assert (found[0].reward, found[1].reward) == (None, 1)


def test_a_judge_that_breaks_costs_its_pictures_and_says_so() -> None:
    made = rewards("geneval-miniature")
    canary = made.evaluators[0].canaries()[0]
    notes: list[str] = []
    found = judged(made, [canary.image[0, 0]], [Asked(canary.prompt, 0)], notes)
    assert found[0].reward is None
    assert "geneval-miniature failed on 1 pictures" in notes[0]


def test_regions_come_with_the_reward_where_they_are_asked_for() -> None:
    made = rewards("geneval-miniature", find_regions=True)
    canary = made.evaluators[0].canaries()[0]
    (found,) = judged(made, [canary.image], [Asked(canary.prompt, 0)])
    assert found.regions is not None
    assert found.regions.shape == canary.image.shape[:2]
    assert 0 < found.regions.mean() < 0.5
