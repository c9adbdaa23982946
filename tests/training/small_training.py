"""Small trainings on the miniature, shared by the tests of the loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from star_bench.runs.progress import Silent
from star_bench.training import recipe as recipes
from star_bench.training.recipe import Recipe
from star_bench.training.trainer import Trainer

TINY = (
    "epochs=3",
    "rollout.prompts=2",
    "rollout.group_size=4",
    "rollout.batch_size=3",
    "rollout.steps=3",
    "rollout.window=2",
    "evaluation.suites=[]",
    "masks.prompts=[]",
    "save_every=1",
    "compute.precision=float32",
)
"""24 rollouts in all, of three steps; batches that don't divide the groups. In float32, so that equal means equal on
every CPU."""


def tiny(*changes: str, name: str = "star-geneval-mini") -> Recipe:
    return recipes.load(name, [*TINY, *changes])


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock says."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in lines]


def train(folder: Path, *changes: str, name: str = "star-geneval-mini") -> list[dict[str, Any]]:
    """Trains a tiny recipe in a folder and returns its metrics."""
    Trainer(tiny(*changes, name=name), folder, device="cpu", bar=Silent()).train()
    return metrics(folder)
