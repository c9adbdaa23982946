"""Picture against picture, in runs written through the real store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from star_bench.analysis.wins import win_rate
from star_bench.errors import Refused

Made = Callable[..., Path]


def test_wins_ties_and_losses_are_counted_by_picture(made: Made) -> None:
    before = np.array([[0.5, 0.5], [0.2, 0.8], [0.4, 0.4]])
    after = np.array([[0.6, 0.6], [0.2, 0.9], [0.3, 0.1]])
    found = win_rate(made(before), made(after, model="after"))
    assert found["value"] == pytest.approx((1 + 1 + 0.5 + 1 + 0 + 0) / 6)
    assert (found["ties"], found["n_images"], found["n_prompts"]) == (1, 6, 3)
    assert found["low"] <= found["value"] <= found["high"]
    assert "after over" in found["measure"] and "Brightness" in found["metric"]


def test_the_other_way_round_it_is_the_rest(made: Made) -> None:
    rng = np.random.default_rng(0)
    first, second = made(rng.random((5, 2)).round(1)), made(rng.random((5, 2)).round(1), model="after")
    assert win_rate(first, second)["value"] == pytest.approx(1 - win_rate(second, first)["value"])


def test_runs_that_can_not_be_compared_are_refused(made: Made) -> None:
    with pytest.raises(Refused, match="can't be compared"):
        win_rate(made(np.full((4, 2), 0.5)), made(np.full((3, 2), 0.5), model="after"))
