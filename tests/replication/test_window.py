"""The window holds the differences that chance makes, and the verdict follows from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_bench.replication.verdict import Verdict, judge
from star_bench.replication.window import WITHIN, Window
from star_bench.statistics.bootstrap import PromptValues
from star_bench.statistics.within import Noise, within_prompts


def draw(chances: np.ndarray, images: int, rng: np.random.Generator) -> list[PromptValues]:
    """Images judged right or wrong, each prompt with a difficulty of its own; three tags."""
    right = rng.random((len(chances), images)) < chances[:, None]
    return [PromptValues(f"tag {i % 3}", row.astype(float).tolist()) for i, row in enumerate(right)]


def mean(prompts: list[PromptValues]) -> float:
    tags = sorted({prompt.tag for prompt in prompts})
    return float(np.mean([np.mean([prompt.values for prompt in prompts if prompt.tag == tag]) for tag in tags]))


def test_two_draws_of_noise_on_the_same_prompts_differ_by_less_in_nineteen_of_twenty() -> None:
    """Prompts are of very different difficulty, which must not widen the window."""
    rng = np.random.default_rng(7)
    chances = rng.choice([0.02, 0.5, 0.98], size=120)
    inside, trials = 0, 500
    for _ in range(trials):
        published, measured = draw(chances, 4, rng), draw(chances, 4, rng)
        noise = within_prompts(measured, of_tags=True)
        assert noise is not None
        inside += Window(2**0.5 * noise.half_width, 0.0, 0.0, WITHIN).holds(mean(measured) - mean(published))
    assert 0.92 < inside / trials < 0.98


def test_a_single_image_shows_no_noise() -> None:
    assert within_prompts([PromptValues("", [1.0]), PromptValues("", [0.0, 1.0])], of_tags=False) is None
    assert within_prompts([], of_tags=False) is None


def test_prompts_whose_images_agree_have_none() -> None:
    assert within_prompts([PromptValues("", [1.0, 1.0]), PromptValues("", [0.0, 0.0])], of_tags=False) == Noise(
        0.0, math.inf
    )


@given(st.floats(-1, 1), st.floats(0, 0.2), st.floats(0, 0.1), st.floats(0.01, 0.3))
def test_verdicts_are_two_sided_and_wide_windows_say_nothing(
    difference: float, noise: float, tolerance: float, widest: float
) -> None:
    window = Window(noise, 0.005, tolerance, WITHIN)
    found = judge(difference, window, widest).verdict
    assert found is judge(-difference, window, widest).verdict
    if found is Verdict.DIFFERS:
        assert abs(difference) > noise + tolerance + 0.005
    else:
        assert abs(difference) <= noise + tolerance + 0.005 + 1e-5
        assert found is (Verdict.REPRODUCED if window.half <= widest else Verdict.INCONCLUSIVE)


def test_half_a_unit_of_the_last_decimal_is_no_difference() -> None:
    window = Window(0.0, 0.00005, 0.0, WITHIN)
    assert judge(0.40125 - 0.4012, window, 0.05).verdict is Verdict.REPRODUCED
    assert judge(0.4013 - 0.4012, window, 0.05).verdict is Verdict.DIFFERS


def test_without_a_window_there_is_no_verdict() -> None:
    assert judge(0.0, None, 0.05).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("of_tags", [True, False])
def test_more_images_make_it_narrower(of_tags: bool) -> None:
    rng = np.random.default_rng(0)
    chances = np.full(60, 0.5)
    few, many = (within_prompts(draw(chances, images, rng), of_tags=of_tags) for images in (2, 8))
    assert few is not None
    assert many is not None
    assert many.half_width == pytest.approx(few.half_width / 2, rel=0.2)
