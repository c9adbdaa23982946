"""An epoch's line of metrics can always be written as JSON, and a failure is none of its numbers."""

from __future__ import annotations

import json
import math

import torch

from star_bench.training.epoch_metrics import reward_metrics, update_metrics
from star_bench.training.update import UpdateReport


def test_an_update_that_overflowed_float16_is_counted_and_in_no_mean() -> None:
    whole = UpdateReport(policy_loss=0.1, kl=0.0, log_ratio=0.0, clipped=0.0, grad_norm=2.0, transitions=4)
    lost = UpdateReport(policy_loss=0.3, kl=0.0, log_ratio=0.5, clipped=0.5, grad_norm=None, transitions=3)
    found = update_metrics([whole, lost])
    assert (found["grad_norm"], found["updates/overflowed"], found["updates/taken"]) == (2.0, 1, 1)
    assert found["updates/transitions"] == 7
    assert update_metrics([lost])["grad_norm"] is None
    json.dumps(found, allow_nan=False)


def test_a_distance_that_was_not_measured_is_no_number() -> None:
    """Without a KL term no reference is asked: 0 would say that nothing has moved."""
    unmeasured = UpdateReport(policy_loss=0.1, kl=None, log_ratio=0.0, clipped=0.0, grad_norm=2.0, transitions=4)
    assert update_metrics([unmeasured])["kl"] is None


def test_an_epoch_without_updates_has_the_same_names_and_no_numbers_but_counts() -> None:
    report = UpdateReport(0.1, 0.0, 0.0, 0.0, 2.0, 4)
    counts = {f"updates/{name}": 0 for name in ("taken", "overflowed", "transitions")}
    assert update_metrics([]) == dict.fromkeys(update_metrics([report])) | counts


def test_rollouts_without_a_reward_are_counted_and_in_no_mean() -> None:
    found = reward_metrics(torch.tensor([1.0, math.nan, 0.5, math.nan]), torch.tensor([0, 0, 0, 1]), ["a", "b"])
    assert (found["reward/mean"], found["reward/failed"]) == (0.75, 2)
    assert (found["reward/a"], found["reward/b"]) == (0.75, None)
    json.dumps(found, allow_nan=False)
