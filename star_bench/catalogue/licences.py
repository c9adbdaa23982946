"""What a checkpoint and a suite are made of, and what the licence of each part allows.

Not legal advice, and never a guess: what nobody stated plainly is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from star_bench.catalogue import checkpoints
from star_bench.catalogue.checkpoints import Checkpoint, Entry
from star_bench.catalogue.suites import NOT_STATED, Commercial, SuiteCard


@dataclass(frozen=True)
class Licensed:
    """licence_url: where it is stated."""

    of: Literal["model", "prompts", "training prompts", "judge"]
    name: str
    licence: str
    commercial: Commercial
    licence_url: str | None


def of_checkpoint(checkpoint: Checkpoint) -> list[Licensed]:
    """The model, and what it is put on: a LoRA can't be used without its base, so the base's licence counts too."""
    parts = [_model(checkpoint.name, checkpoint)]
    if checkpoint.base is not None:
        parts.append(_model(checkpoint.base, checkpoints.entries().get(checkpoint.base)))
    return parts


def _model(name: str, said: Checkpoint | Entry | None) -> Licensed:
    if said is None:  # a base by its path or hub id, of which no checkpoints.yaml says anything
        return Licensed("model", name, NOT_STATED, "unknown", None)
    return Licensed("model", name, said.licence, said.commercial, said.licence_url)


def of_suite(card: SuiteCard) -> list[Licensed]:
    """The prompts and the judges' weights: what takes part in a run."""
    prompts = card.prompts
    parts = [Licensed("prompts", card.name, prompts.licence, prompts.commercial, prompts.licence_url)]
    parts += [Licensed("judge", w.name, w.licence, w.commercial, w.licence_url) for w in card.judge_weights]
    if card.judges and not card.judge_weights:
        parts.append(Licensed("judge", f"judges of {card.name}", NOT_STATED, "unknown", None))
    return parts


def of_training(card: SuiteCard) -> list[Licensed]:
    """The prompts that others trained on: no part of any run."""
    training = card.prompts.training
    if training is None:
        return []
    name = training.path if training.repository else f"{card.name}/{training.path}"
    return [Licensed("training prompts", name, training.licence, training.commercial, training.licence_url)]


def commercial(parts: Iterable[Licensed]) -> Commercial:
    """What all parts together allow: as much as the strictest."""
    said = {part.commercial for part in parts}
    return "no" if "no" in said else "unknown" if "unknown" in said else "yes"
