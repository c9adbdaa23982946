"""The card of a finished training: what was trained, on what, from what and with what."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from star_bench.assets.model_files import LocalCheckpoint
from star_bench.catalogue import licences
from star_bench.catalogue.checkpoints import Checkpoint
from star_bench.runs.environment import environment
from star_bench.runs.notices import Notice, plain
from star_bench.training.recipe import Recipe
from star_bench.training.rewards import Rewards

SCHEMA = 1
METHODS = {"uniform": "Flow-GRPO", "star": "STAR, as reconstructed by star-bench"}


def make_card(
    recipe: Recipe,
    checkpoint: Checkpoint,
    local: LocalCheckpoint,
    rewards: Rewards,
    *,
    rows: Sequence[dict[str, Any]],
    failed: int,
    untaught: int,
    notices: Sequence[Notice],
    sessions: Sequence[dict[str, Any]],
    processes: int,
    device: str,
) -> dict[str, Any]:
    """Plain data. rows: the lines of metrics.jsonl. failed: rollouts without a reward, in all epochs. untaught: epochs
    without an update. notices: for its readers. sessions: from which epoch on, on which machine, with which
    settings of those that may change."""
    evaluated = [row for row in rows if any(key.startswith("eval/") for key in row)]
    sources = [
        {
            "suite": evaluator.card.name,
            "of": reward.of,
            "weight": reward.weight,
            "metric": evaluator.metric.identity,
            "judges": judges,
            "different_prompts": len({prompt.text for prompt in prompts}),
            "left_out": evaluator.training_notes(),
            "training_file": training.model_dump(mode="json", include={"path", "repository", "digest", "licence"}),
        }
        for reward, evaluator, judges, prompts in zip(
            recipe.rewards, rewards.evaluators, rewards.judges, rewards.prompts, strict=True
        )
        if (training := evaluator.card.prompts.training) is not None
    ]
    return {
        "schema": SCHEMA,
        "recipe": recipe.name,
        "title": recipe.title,
        "method": METHODS.get(recipe.allocation.kind, f"control: {recipe.allocation.kind}"),
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "settings": recipe.model_dump(mode="json"),
        "settings_digest": recipe.digest(),
        "base": {"name": checkpoint.name, "digest": local.digest, "commit": local.revision},
        "processes": processes,
        "rewards": sources,
        "rollouts_without_reward": failed,
        "epochs_without_update": untaught,
        "notices": plain(notices),
        "sessions": list(sessions),
        "first": evaluated[0] if evaluated else None,
        "last": evaluated[-1] if evaluated else None,
        "environment": environment(device),
        "licences": [dataclasses.asdict(part) for part in licences.of_checkpoint(checkpoint)],
    }
