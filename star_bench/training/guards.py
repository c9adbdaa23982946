"""When a run has gone wrong, it stops with its last good state kept, and says which number said so."""

from __future__ import annotations

import math
from collections.abc import Sequence

from star_bench.errors import Incomplete
from star_bench.training.recipe import GuardSettings


class Diverged(Incomplete):
    """Training went wrong (exit 3): the state before it is kept."""


def check_update(settings: GuardSettings, *, loss: float, grad_norm: float, log_ratio: float) -> None:
    """To be called before an optimiser step is taken. Raises Diverged."""
    for name, value in (("loss", loss), ("gradient norm", grad_norm), ("log ratio", log_ratio)):
        if not math.isfinite(value):
            raise Diverged(f"the {name} is {value}", "lower optimiser.learning_rate, or use bfloat16 or float32")
    if log_ratio > settings.log_ratio:
        raise Diverged(
            f"the log ratio of the policy to itself before the epoch reached {log_ratio:.3g}, and guards.log_ratio allows "
            f"{settings.log_ratio:g}",
            "lower optimiser.learning_rate or objective.clip_range",
        )


def check_model(*, broken: int) -> None:
    """broken: how many of the model's outputs are not finite. To be called before its weights are saved. Raises
    Diverged."""
    if broken:
        raise Diverged(
            "what the model gives is no longer finite after its last update", "lower optimiser.learning_rate"
        )


def fell(settings: GuardSettings, rewards: Sequence[float]) -> str | None:
    """Of a training too short for `check_epoch` to look at its rewards: what is to be said where the last epoch's lies
    below the share of the best one's that the guard asks for; else None."""
    if len(rewards) >= 2 * settings.window or not rewards:
        return None
    best, last = max(rewards), rewards[-1]
    if last >= settings.reward_share * best:
        return None
    return (
        f"REWARD FELL: the mean reward of the last epoch is {last:.4f}, less than {settings.reward_share:g} of the best "
        f"epoch's {best:.4f}; guards.window stops a training only from {2 * settings.window} epochs on"
    )


def check_epoch(settings: GuardSettings, *, kl: float, rewards: Sequence[float]) -> None:
    """rewards: the mean reward of every epoch so far. Raises Diverged."""
    if kl > settings.kl:
        raise Diverged(
            f"the KL to the reference is {kl:.3g}, and guards.kl allows {settings.kl:g}",
            "raise objective.kl or lower optimiser.learning_rate",
        )
    window = settings.window
    if len(rewards) < 2 * window:
        return
    means = [sum(rewards[i : i + window]) / window for i in range(len(rewards) - window + 1)]
    best, last = max(means), means[-1]
    if last < settings.reward_share * best:
        raise Diverged(
            f"the mean reward of the last {window} epochs is {last:.4f}, less than {settings.reward_share:g} of the best "
            f"{window} epochs' {best:.4f}",
            "lower optimiser.learning_rate, raise objective.kl, or go on from an earlier checkpoint",
        )
