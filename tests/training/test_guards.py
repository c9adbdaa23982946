"""A run that goes wrong stops, and says by which number."""

from __future__ import annotations

import math

import pytest

from star_bench.training.guards import Diverged, check_epoch, check_update, fell
from star_bench.training.recipe import GuardSettings

SETTINGS = GuardSettings(log_ratio=2.0, kl=10.0, reward_share=0.5, window=3)


def test_nothing_wrong_passes() -> None:
    check_update(SETTINGS, loss=0.1, grad_norm=3.0, log_ratio=0.01)
    check_epoch(SETTINGS, kl=0.1, rewards=[0.4, 0.5, 0.6, 0.5, 0.55, 0.6, 0.5])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"loss": math.nan}, "the loss is nan"),
        ({"grad_norm": math.inf}, "the gradient norm is inf"),
        ({"log_ratio": math.nan}, "the log ratio is nan"),
        ({"log_ratio": 2.5}, "reached 2.5"),
    ],
)
def test_an_update_gone_wrong(values: dict[str, float], said: str) -> None:
    with pytest.raises(Diverged, match=said) as caught:
        check_update(SETTINGS, **{"loss": 0.1, "grad_norm": 1.0, "log_ratio": 0.1, **values})
    assert caught.value.exit_code == 3


def test_exploding_kl() -> None:
    with pytest.raises(Diverged, match="the KL to the reference is 11"):
        check_epoch(SETTINGS, kl=11.0, rewards=[0.5])


def test_collapsed_reward_names_both_means() -> None:
    with pytest.raises(Diverged, match=r"0\.1000.*0\.6000"):
        check_epoch(SETTINGS, kl=0.0, rewards=[0.6, 0.6, 0.6, 0.3, 0.1, 0.1, 0.1])


def test_a_short_dip_is_no_collapse() -> None:
    check_epoch(SETTINGS, kl=0.0, rewards=[0.6, 0.6, 0.6, 0.6, 0.6, 0.1])


def test_a_fall_in_a_training_too_short_for_the_guard_is_said() -> None:
    """The guard compares two windows, here 6 epochs; before that a reader is told both numbers."""
    said = fell(SETTINGS, [0.6, 0.5, 0.0])
    assert said is not None and said.startswith("REWARD FELL")
    assert "0.0000" in said and "0.6000" in said and "from 6 epochs on" in said
    assert fell(SETTINGS, []) is None
    assert fell(SETTINGS, [0.6, 0.5, 0.3]) is None, "exactly the share"
    assert fell(SETTINGS, [0.6, 0.6, 0.6, 0.6, 0.6, 0.0]) is None, "the guard's from here on"
