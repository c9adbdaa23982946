"""The group-relative advantage: how much better a rollout did than the others of its prompt (Flow-GRPO, GRPO)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

EPSILON = 1e-4  # Flow-GRPO
Std = Literal["global", "group"]


def group_advantages(rewards: Tensor, groups: Tensor, *, std: Std = "global", clamp: float = 5.0) -> Tensor:
    """(N,) float32 advantages, (r - mean of its group) / (std + 1e-4), clamped to +-clamp.

    rewards: (N,) finite. groups: (N,) integers, equal for rollouts of one prompt. std: the population's, over all N
    ("global", Flow-GRPO's) or over the group. A group whose rewards are all equal has exactly 0.
    """
    rewards = rewards.double()  # so that the mean of equal rewards is that reward
    _, index = groups.unique(return_inverse=True)
    counts = torch.bincount(index).double()
    means = torch.zeros_like(counts).index_add(0, index, rewards) / counts
    centred = torch.where(varies(rewards, groups), rewards - means[index], 0.0)
    if std == "global":
        spread = rewards.std(correction=0).expand_as(rewards)
    else:
        spread = (torch.zeros_like(counts).index_add(0, index, centred**2) / counts).sqrt()[index]
    return (centred / (spread + EPSILON)).clamp(-clamp, clamp).float()


def varies(rewards: Tensor, groups: Tensor) -> Tensor:
    """(N,) bool: whether the rewards of its group are not all equal.

    Where they are equal, every advantage is 0 whatever the other groups did, so a group can be dropped as soon as it
    is scored, before its latents are kept.
    """
    _, index = groups.unique(return_inverse=True)
    highest = torch.full((int(index.max()) + 1,), -torch.inf, dtype=rewards.dtype).scatter_reduce(
        0, index, rewards, "amax"
    )
    lowest = torch.full_like(highest, torch.inf).scatter_reduce(0, index, rewards, "amin")
    return (highest > lowest)[index]
