"""Everything that the package fetches is pinned: to a commit, or to what its content must be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from star_bench.catalogue import checkpoints, suites
from star_bench.evaluators.geneval.published import COLOR_COMMIT, COLOR_SHA256, OFFICIAL_CHECKPOINT

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
UNKNOWN = {"flow-grpo-geneval", "flow-grpo-ocr"}
"""Whose commits were not known when checkpoints.yaml was written. No other may join them."""


def test_every_model_of_a_hub_is_pinned_to_a_commit() -> None:
    sources = {name: entry.lora or entry.source for name, entry in checkpoints.entries().items()}
    loose = {name for name, source in sources.items() if source.hub and not COMMIT.fullmatch(source.revision)}
    assert loose == UNKNOWN


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from mappings(each)


@pytest.mark.parametrize("name", suites.names())
def test_every_judge_and_prompt_file_of_a_suite_is_pinned(name: str) -> None:
    card = suites.load(name)
    for said in mappings(card.judges):
        revisions = [value for key, value in said.items() if key.endswith("revision")]
        assert all(COMMIT.fullmatch(revision) for revision in revisions)
        if said.get("backend") == "transformers":
            assert len(revisions) == 2
        for command in said.get("fetch", "").split(" && "):
            program = " ".join(command.split()[:2])
            match program:
                case "" | "star-bench geneval":  # below
                    pass
                case "hf download":
                    assert re.search(r" --revision [0-9a-f]{40} ", command), command
                case _:
                    assert SHA256.fullmatch(said.get("sha256", "")), command
    assert not card.prompts.repository or card.prompts.sha256
    training = card.prompts.training
    assert not training or not training.repository or training.digest


def test_genevals_own_judges_are_pinned() -> None:
    assert SHA256.fullmatch(OFFICIAL_CHECKPOINT.sha256)
    assert COMMIT.fullmatch(COLOR_COMMIT) and SHA256.fullmatch(COLOR_SHA256)
