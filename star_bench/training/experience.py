"""An epoch's experience: the rollouts that an update can learn from, and nothing of the others.

A group whose rewards are all equal teaches nothing, so its latents are let go as soon as it is scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from star_bench.training.rollout import Rollout


@dataclass(frozen=True)
class Kept:
    """One rollout. latents: (T + 1, C, H, W); log_prob and weights: (T, H, W); mean: (T, C, H, W) or None.

    number: its place among all rollouts of the epoch, of all processes.
    """

    rollout: Rollout
    number: int
    latents: Tensor
    log_prob: Tensor
    weights: Tensor
    mean: Tensor | None


@dataclass(frozen=True)
class Batch:
    """B transitions. steps: (B,) place among the trained steps. valid: (B,) 1, or 0 for a row that only fills the shape."""

    texts: list[str]
    steps: Tensor
    before: Tensor
    after: Tensor
    log_prob: Tensor
    weights: Tensor
    mean: Tensor | None
    advantage: Tensor
    valid: Tensor


def batches(kept: Sequence[Kept], advantages: Tensor, size: int) -> Iterator[Batch]:
    """All transitions of these rollouts, `size` at a time, step by step; the last batch is filled up by repeating, so that
    every forward has one shape. advantages: (len(kept),)."""
    if not kept:
        return
    trained = len(kept[0].log_prob)
    pairs = [(row, step) for step in range(trained) for row in range(len(kept))]
    for start in range(0, len(pairs), size):
        chosen = pairs[start : start + size]
        filled = chosen + [chosen[0]] * (size - len(chosen))
        rows = [(kept[row], step) for row, step in filled]
        device = rows[0][0].latents.device
        means = [one.mean[step] for one, step in rows if one.mean is not None]
        yield Batch(
            texts=[one.rollout.prompt.text for one, _ in rows],
            steps=torch.tensor([step for _, step in rows]),
            before=torch.stack([one.latents[step] for one, step in rows]),
            after=torch.stack([one.latents[step + 1] for one, step in rows]),
            log_prob=torch.stack([one.log_prob[step] for one, step in rows]),
            weights=torch.stack([one.weights[step] for one, step in rows]),
            mean=torch.stack(means) if means else None,
            advantage=advantages[[row for row, _ in filled]].to(device),
            valid=torch.tensor([1.0] * len(chosen) + [0.0] * (size - len(chosen)), device=device),
        )
