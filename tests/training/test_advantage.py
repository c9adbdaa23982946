"""The group-relative advantage as Flow-GRPO defines it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from star_bench.training.advantage import group_advantages, varies

REWARDS = st.lists(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.7, 1.0]), min_size=12, max_size=12)


def groups_of(rewards: list[float]) -> torch.Tensor:
    return torch.arange(len(rewards)) // 4


@given(REWARDS, st.sampled_from(["global", "group"]))
def test_is_the_stated_formula(rewards: list[float], std: str) -> None:
    r = np.array(rewards).reshape(3, 4)
    centred = r - r.mean(1, keepdims=True)
    spread = r.std() if std == "global" else r.std(1, keepdims=True)
    expected = np.clip(centred / (spread + 1e-4), -5, 5).ravel()
    got = group_advantages(torch.tensor(rewards), groups_of(rewards), std=std)  # type: ignore[arg-type]
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)


@given(REWARDS)
def test_a_group_without_differences_has_exactly_none(rewards: list[float]) -> None:
    rewards[4:8] = [0.1] * 4  # 0.1 has no exact binary form: its mean may differ from it
    groups = groups_of(rewards)
    assert not group_advantages(torch.tensor(rewards), groups)[4:8].any()
    assert not varies(torch.tensor(rewards), groups)[4:8].any()


@given(REWARDS, st.randoms(use_true_random=False))
def test_order_does_not_matter(rewards: list[float], random: object) -> None:
    order = list(range(12))
    random.shuffle(order)  # type: ignore[attr-defined]
    r, g = torch.tensor(rewards), groups_of(rewards)
    straight = group_advantages(r, g)
    torch.testing.assert_close(group_advantages(r[order], g[order]), straight[order])


def test_is_clamped() -> None:
    rewards = torch.tensor([0.0] * 99 + [1.0])
    got = group_advantages(rewards, torch.zeros(100, dtype=torch.long), clamp=5.0)
    assert got.max() == pytest.approx(5.0)
    assert group_advantages(rewards, torch.zeros(100, dtype=torch.long), clamp=20.0).max() > 9


def test_group_numbers_need_not_be_dense() -> None:
    rewards, groups = torch.tensor([0.0, 1.0, 0.2, 0.4]), torch.tensor([7, 7, 1000, 1000])
    assert group_advantages(rewards, groups)[0] == -group_advantages(rewards, groups)[1]
    assert varies(rewards, groups).all()
