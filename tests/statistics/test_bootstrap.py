"""Intervals that mean what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_bench.statistics.bootstrap import PromptValues, estimate


def test_mean_of_tags_is_not_the_mean_of_images() -> None:
    data = [PromptValues("a", [1, 1]), PromptValues("b", [0, 0]), PromptValues("b", [0, 1])]
    assert estimate(data).value == pytest.approx(3 / 6)
    assert estimate(data, of_tags=True).value == pytest.approx((1 + 1 / 4) / 2)


def test_denominators_count_only_what_has_a_value() -> None:
    found = estimate([PromptValues("a", [1.0]), PromptValues("a", []), PromptValues("a", [0.0, 1.0])])
    assert (found.n_prompts, found.n_images) == (2, 3)


def test_nothing_has_no_value_and_one_prompt_no_interval() -> None:
    assert estimate([PromptValues("a", [])]).value is None
    assert estimate([PromptValues("a", [1.0])]).low is None


def test_a_tag_with_a_single_prompt_gives_no_interval() -> None:
    found = estimate([PromptValues("a", [1.0]), PromptValues("b", [0.0]), PromptValues("b", [1.0])], of_tags=True)
    assert (found.value, found.low, found.high) == (0.75, None, None)


values_of_a_prompt = st.lists(st.floats(0, 1), min_size=1, max_size=3)


@given(st.lists(st.tuples(st.just("a"), values_of_a_prompt), min_size=2))
def test_interval_lies_in_the_range_of_the_values(rows: list[tuple[str, list[float]]]) -> None:
    found = estimate([PromptValues(tag, values) for tag, values in rows])
    values = [v for _, vs in rows for v in vs]
    assert found.low is not None and found.high is not None
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_clustered_images_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    easy = rng.random(60) < 0.5
    clustered = estimate([PromptValues("a", [float(e)] * 4) for e in easy])
    independent = estimate([PromptValues("a", list((rng.random(4) < 0.5).astype(float))) for _ in easy])
    assert clustered.high - clustered.low > 1.5 * (independent.high - independent.low)  # type: ignore[operator]


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """300 simulated suites of 60 prompts x 4; the percentile bootstrap is a little narrow at this size."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        skill = rng.beta(2, 2, 60)
        data = [PromptValues("a", list((rng.random(4) < p).astype(float))) for p in skill]
        found = estimate(data)
        hits += found.low <= 0.5 <= found.high  # type: ignore[operator]
    assert 0.91 <= hits / 300 <= 0.98
