"""What a suite can tell apart: the formula, the estimate of its parts, and that the power is what it says."""

import numpy as np
import pytest

from star_bench.errors import UsageError
from star_bench.statistics.bootstrap import PromptValues, estimate
from star_bench.statistics.paired import changes
from star_bench.statistics.power import Design, design

TAGS = 6
BETWEEN, WITHIN = 0.04, 0.18
Run = dict[str, PromptValues]


def runs(rng: np.random.Generator, prompts: int, samples: int, effect: float) -> tuple[Run, Run]:
    """Two models' scores; pairs differ by `effect`, by the prompt (variance BETWEEN) and by luck (variance WITHIN)."""
    before = rng.normal(size=(prompts, 1)) + rng.normal(size=(prompts, samples)) * (WITHIN / 2) ** 0.5
    luck = rng.normal(size=(prompts, samples)) * (WITHIN / 2) ** 0.5
    after = before + luck * 2**0.5 + rng.normal(size=(prompts, 1)) * BETWEEN**0.5
    names = [f"tag {i % TAGS}" for i in range(prompts)]
    return tuple(  # type: ignore[return-value]
        {str(i): PromptValues(tag, row) for i, (tag, row) in enumerate(zip(names, table, strict=True))}
        for table in (before, after + effect)
    )


def truth(prompts: int) -> Design:
    return Design(BETWEEN, WITHIN, {f"tag {i}": prompts // TAGS for i in range(TAGS)}, of_tags=True)


def test_the_parts_of_the_variance_are_found() -> None:
    found = design(*runs(np.random.default_rng(0), 6000, 3, 0.1), of_tags=True)
    assert found.between == pytest.approx(BETWEEN, rel=0.1)
    assert found.within == pytest.approx(WITHIN, rel=0.05)
    assert found.n_prompts == 6000


def test_the_difference_that_is_called_detectable_is_found_in_80_percent() -> None:
    plan = truth(60)
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(1000):
        low = estimate(changes(*runs(rng, 60, 2, plan.detectable(2))), of_tags=True).low
        found += low is not None and low > 0
    assert 0.76 <= found / 1000 <= 0.84


@pytest.mark.parametrize("samples", [1, 4])
def test_as_many_prompts_as_it_takes_and_no_more(samples: int) -> None:
    plan = truth(60)
    needed = plan.prompts_needed(0.05, samples)
    assert plan.scaled(needed / 60).detectable(samples) <= 0.05
    assert plan.scaled((needed - TAGS) / 60).detectable(samples) > 0.05


def test_more_images_help_until_only_the_prompts_differ() -> None:
    plan = truth(60)
    detectable = [plan.detectable(n) for n in (1, 4, 16, 10_000)]
    assert detectable == sorted(detectable, reverse=True)
    assert detectable[-1] == pytest.approx(Design(BETWEEN, 0.0, plan.prompts, of_tags=True).detectable(1), rel=0.01)


def test_one_run_alone_stands_for_two_with_their_own_luck() -> None:
    before, _ = runs(np.random.default_rng(2), 6000, 4, 0.0)
    found = design(before, None, of_tags=True)
    assert found.between == 0.0
    assert found.within == pytest.approx(2 * WITHIN / 2, rel=0.05)


def test_one_image_per_prompt_does_not_say_how_images_differ() -> None:
    with pytest.raises(UsageError, match="without two images of a prompt"):
        design(*runs(np.random.default_rng(0), 12, 1, 0.0))
    with pytest.raises(UsageError, match="is no difference to look for"):
        truth(60).prompts_needed(0.0, 1)
