"""A judge lets go of its networks, and loads them again when it scores: the same scores, and no memory in between."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch

from star_bench import plugins, suites
from star_bench.evaluators.base import Evaluator, Score


def networks() -> int:
    """How many large torch modules are alive: those with children of their own."""
    gc.collect()
    return sum(isinstance(each, torch.nn.Module) and any(True for _ in each.children()) for each in gc.get_objects())


def scores(judge: Evaluator) -> list[Score]:
    canaries = judge.canaries()
    return judge.score([canary.image for canary in canaries], [canary.prompt for canary in canaries])


@pytest.mark.parametrize("suite", ["geneval-miniature", "preference-miniature", "quality-miniature"])
def test_a_judge_that_lets_go_scores_the_same_again(suite: str) -> None:
    card = suites.load(suite)
    judge: Evaluator = plugins.load(plugins.EVALUATORS, card.evaluator)(card)
    judge.judges()
    before = networks()
    first = scores(judge)
    assert networks() > before
    judge.release()
    assert networks() == before
    again: Any = scores(judge)
    assert [(score.value, score.detail) for score in again] == [(score.value, score.detail) for score in first]
