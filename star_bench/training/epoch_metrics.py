"""An epoch's line of metrics: rewards, updates, maps and time, under flat names."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from torch import Tensor

from star_bench.training.update import UpdateReport


def reward_metrics(rewards: Tensor, suite: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """rewards: (N,), NaN where there is none. suite: (N,) the place of each one's suite in `names`."""
    judged = rewards.isfinite()
    out: dict[str, Any] = {
        "reward/mean": _mean(rewards[judged]),
        "reward/std": float(rewards[judged].std(correction=0)) if judged.any() else None,
        "reward/failed": int((~judged).sum()),
    }
    return out | {f"reward/{name}": _mean(rewards[judged & (suite == i)]) for i, name in enumerate(names)}


def update_metrics(reports: Sequence[UpdateReport]) -> dict[str, Any]:
    """How many updates an epoch had, their transitions (rollouts times trained steps), means over them, and what the
    first, on-policy one and the last one say of their ratios; no number but the counts where no group had anything to
    teach. kl is None too where it was not measured."""
    distances = [report.kl for report in reports if report.kl is not None]
    norms = [report.grad_norm for report in reports if report.grad_norm is not None]
    return {
        "updates/taken": len(norms),
        "updates/overflowed": len(reports) - len(norms),
        "updates/transitions": sum(report.transitions for report in reports),
        "loss/policy": fmean(report.policy_loss for report in reports) if reports else None,
        "kl": fmean(distances) if distances else None,
        "ratio/first_log": reports[0].log_ratio if reports else None,
        "ratio/last_log": reports[-1].log_ratio if reports else None,
        "clip_fraction": reports[-1].clipped if reports else None,
        "grad_norm": fmean(norms) if norms else None,
    }


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if len(values) else None
