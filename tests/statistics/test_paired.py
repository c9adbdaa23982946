"""Differences of two runs: each prompt against itself, and intervals that mean what they say."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import chi2

from star_bench.statistics.bootstrap import PromptValues, estimate
from star_bench.statistics.paired import changes, mcnemar_p, paired_difference, permutation_p

Run = dict[str, PromptValues]
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray, float]]


def run(values: np.ndarray, tags: int = 1) -> Run:
    """Of (prompts, images); the prompts' tags take turns."""
    return {f"{i:05d}": PromptValues(f"tag {i % tags}", row.tolist()) for i, row in enumerate(values)}


def test_the_difference_is_that_of_the_means() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random((60, 2)), rng.random((60, 2))
    found = paired_difference(run(before), run(after))
    assert found.value == pytest.approx(after.mean() - before.mean())
    assert (found.n_images, found.n_prompts) == (120, 60)
    assert found.low is not None and found.high is not None and found.low < found.value < found.high


def test_tags_of_different_size_weigh_the_same_where_asked() -> None:
    before = {"a": PromptValues("x", [0.0]), "b": PromptValues("y", [0.0]), "c": PromptValues("y", [0.0])}
    after = {"a": PromptValues("x", [1.0]), "b": PromptValues("y", [0.0]), "c": PromptValues("y", [0.0])}
    assert paired_difference(before, after).value == pytest.approx(1 / 3)
    assert paired_difference(before, after, of_tags=True).value == pytest.approx(1 / 2)


def test_only_prompts_with_values_in_both_count() -> None:
    before = {"a": PromptValues("", [0.0]), "b": PromptValues("", [0.5]), "c": PromptValues("", [0.0])}
    after = {"a": PromptValues("", [1.0]), "c": PromptValues("", []), "d": PromptValues("", [9.0])}
    found = paired_difference(before, after)
    assert (found.value, found.n_prompts, found.low) == (1.0, 1, None)
    assert paired_difference(before, {}).value is None


def test_the_same_for_every_prompt_is_certain_however_different_the_prompts() -> None:
    values = np.linspace(0, 100, 40)[:, None]
    found = paired_difference(run(values), run(values + 0.25))
    assert (found.low, found.high) == (pytest.approx(0.25), pytest.approx(0.25))
    apart = estimate(run(values).values())
    assert apart.high is not None and apart.low is not None and apart.high - apart.low > 10


def test_it_repeats_exactly() -> None:
    rng = np.random.default_rng(0)
    pair = run(rng.random((30, 2)), 3), run(rng.random((30, 2)), 3)
    assert paired_difference(*pair, of_tags=True) == paired_difference(*pair, of_tags=True)


def scores(rng: np.random.Generator, prompts: int) -> tuple[np.ndarray, np.ndarray, float]:
    """A score like PickScore: prompts differ by far more than the runs do, and answer differently to the change."""
    easy = rng.normal(20, 2, (prompts, 1))
    change = rng.normal(0.3, 0.8, (prompts, 1))
    return easy + rng.normal(0, 1, (prompts, 2)), easy + change + rng.normal(0, 1, (prompts, 2)), 0.3


def verdicts(rng: np.random.Generator, prompts: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Right or wrong, as in GenEval; the mean skill goes from 0.5 to 0.55."""
    skill = rng.beta(2, 2, (prompts, 1))
    better = skill + 0.1 * (1 - skill)
    return rng.random((prompts, 2)) < skill, rng.random((prompts, 2)) < better, 0.05


@pytest.mark.parametrize(("draw", "prompts", "tags"), [(scores, 60, 1), (verdicts, 60, 1), (verdicts, 150, 6)])
def test_intervals_cover_the_truth_as_often_as_they_say(draw: Draw, prompts: int, tags: int) -> None:
    """2,000 simulated pairs."""
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(2000):
        before, after, truth = draw(rng, prompts)
        found = paired_difference(run(before, tags), run(after, tags), of_tags=tags > 1)
        assert found.low is not None and found.high is not None
        hits += found.low <= truth <= found.high
    assert 0.94 <= hits / 2000 <= 0.96


def test_a_swap_of_whole_prompts_decides_a_small_table_exactly() -> None:
    """Three prompts that all got better: of the 8 ways to swap them, 2 are as extreme."""
    before, after = run(np.zeros((3, 2))), run(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
    assert permutation_p(changes(before, after)) == 2 / 8
    assert permutation_p(changes(before, before)) == 1.0
    assert permutation_p([]) is None


def test_prompts_that_did_not_change_say_nothing() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random((20, 2)), rng.random((20, 2))
    more = np.vstack([before, np.zeros((30, 2))]), np.vstack([after, np.zeros((30, 2))])
    alone = permutation_p(changes(run(before), run(after)))
    assert permutation_p(changes(run(more[0]), run(more[1]))) == pytest.approx(alone)


def test_mcnemars_test_is_the_textbooks_for_one_image_per_prompt() -> None:
    """10 turned right and 3 wrong: (10 - 3)^2 / 13 on one degree of freedom."""
    before = run(np.array([[0.0]] * 10 + [[1.0]] * 3 + [[1.0]] * 20))
    after = run(np.array([[1.0]] * 10 + [[0.0]] * 3 + [[1.0]] * 20))
    assert mcnemar_p(before, after) == pytest.approx(chi2.sf(49 / 13, 1))
    assert mcnemar_p(before, before) is None


def test_images_of_a_prompt_that_turn_together_count_as_one() -> None:
    before = run(np.array([[0.0] * 4] * 10 + [[1.0] * 4] * 3))
    after = run(np.array([[1.0] * 4] * 10 + [[0.0] * 4] * 3))
    assert mcnemar_p(before, after) == pytest.approx(chi2.sf(49 / 13, 1))


def test_mcnemars_test_refuses_what_is_not_right_or_wrong() -> None:
    with pytest.raises(ValueError, match="no pairs of right or wrong"):
        mcnemar_p(run(np.array([[0.5]])), run(np.array([[1.0]])))
    with pytest.raises(ValueError, match="no pairs of right or wrong"):
        mcnemar_p(run(np.array([[0.0, 1.0]])), run(np.array([[1.0]])))


def test_p_values_are_small_as_seldom_as_they_say() -> None:
    """600 simulated pairs of equally good models, whose prompts answer differently to the change."""
    rng = np.random.default_rng(11)
    swapped, turned = [], []
    for _ in range(600):
        skill = rng.beta(2, 2, (60, 1))
        other = np.clip(skill + rng.normal(0, 0.2, (60, 1)), 0, 1)
        both = [run((rng.random((60, 2)) < each).astype(float), 6) for each in rng.permutation([skill, other])]
        swapped.append(permutation_p(changes(*both), of_tags=True))
        turned.append(mcnemar_p(*both))
    assert 0.03 <= np.mean(np.array(swapped) <= 0.05) <= 0.07
    assert 0.03 <= np.mean(np.array(turned, float) <= 0.05) <= 0.07
