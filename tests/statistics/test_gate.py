"""The gate's rules: how often they err, by simulation, and what they say where there is no chance to reckon with."""

import numpy as np
import pytest

from star_bench.statistics.bootstrap import PromptValues
from star_bench.statistics.margin import p_value
from star_bench.statistics.rule import ALPHA, Rule

BOUNDS = (-1.0, 1.0)


def verdict_changes(rng: np.random.Generator, drop: float, prompts: int = 60, tags: int = 6) -> list[PromptValues]:
    """Two images of each prompt, right or wrong; the second model is right less often by `drop` in the mean."""
    skill = rng.uniform(0.2, 0.8, (prompts, 1))
    other = skill + rng.uniform(-0.2, 0.2, (prompts, 1)) - drop
    moved = (rng.random((prompts, 2)) < other).mean(1) - (rng.random((prompts, 2)) < skill).mean(1)
    return [PromptValues(f"tag {i % tags}", [m, m]) for i, m in enumerate(moved)]


def shares(rule: Rule, drop: float, margin: float, runs: int = 2000) -> float:
    """How often the rule's null hypothesis is rejected."""
    rng = np.random.default_rng(5)
    found = [p_value(rule, verdict_changes(rng, drop), margin=margin, of_tags=True, limits=BOUNDS) for _ in range(runs)]
    return float(np.mean(np.array(found, float) <= ALPHA))


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_false_alarms_are_at_most_5_percent(margin: float) -> None:
    """At the very edge of what is still good enough, where alarms are most frequent; 2,000 runs know 5 % to 1 %."""
    assert shares(Rule.NO_REGRESSION, drop=margin, margin=margin) <= 0.06
    assert shares(Rule.NO_REGRESSION, drop=margin - 0.05, margin=margin) <= 0.02


def test_a_checkpoint_at_the_margin_passes_non_inferiority_in_at_most_5_percent() -> None:
    assert shares(Rule.NON_INFERIOR, drop=0.1, margin=0.1) <= 0.06
    assert shares(Rule.NON_INFERIOR, drop=0.0, margin=0.25) > 0.9


def test_a_checkpoint_that_is_much_worse_is_stopped() -> None:
    assert shares(Rule.NO_REGRESSION, drop=0.2, margin=0.0, runs=200) > 0.85


@pytest.mark.parametrize("rule", Rule)
def test_the_same_pictures_pass_by_either_rule(rule: Rule) -> None:
    same = [PromptValues("a", [0.0])] * 5
    p = p_value(rule, same, margin=0.01, limits=BOUNDS, identical=True)
    assert p == (1.0 if rule is Rule.NO_REGRESSION else 0.0)


def test_other_pictures_with_the_same_verdicts_prove_little_with_few_prompts() -> None:
    few, many = ([PromptValues("a", [0.0])] * n for n in (5, 100))
    assert p_value(Rule.NON_INFERIOR, few, margin=0.05, limits=BOUNDS) == pytest.approx(0.95**5)
    assert p_value(Rule.NON_INFERIOR, many, margin=0.05, limits=BOUNDS) == pytest.approx(0.95**100)
    assert p_value(Rule.NON_INFERIOR, many, margin=0.05) == 1.0  # without the ends of the metric nothing is known


def test_the_same_loss_on_every_prompt_is_a_regression() -> None:
    worse = [PromptValues("a", [-0.2])] * 5
    assert p_value(Rule.NO_REGRESSION, worse, margin=0.1, limits=BOUNDS) == 0.0
    assert p_value(Rule.NON_INFERIOR, worse, margin=0.1, limits=BOUNDS) == 1.0


def test_nothing_can_be_said_of_a_single_prompt() -> None:
    assert p_value(Rule.NO_REGRESSION, [PromptValues("a", [-1.0])], margin=0.0) is None
    assert p_value(Rule.NO_REGRESSION, [], margin=0.0) is None
