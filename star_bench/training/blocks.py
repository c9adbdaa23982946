"""Where a map is read: the joint blocks, text tokens and smoothing that a model's card says, and whether the model has those
blocks. Loads no torch, so that it is told before weights are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from star_bench.catalogue import checkpoints
from star_bench.errors import UsageError
from star_bench.files.json import read_config

READS_ATTENTION = frozenset({"star", "shuffled", "all-tokens", "time-averaged", "joint"})
"""Kinds of allocation whose map is made of the model's attention."""


def with_attention(allocation: dict[str, Any], model: str, base: str | None = None) -> dict[str, Any]:
    """Settings of an allocation, and where its kind reads the model's attention those that the model's card says and they
    leave open. Raises UsageError for an unknown model."""
    if allocation.get("kind") not in READS_ATTENTION:
        return allocation
    found = checkpoints.resolve(model, base=base).attention
    return {**(found.model_dump() if found else {}), **allocation}


def check_blocks(blocks: Iterable[int], count: int, model: str) -> None:
    """Raises UsageError for a joint block that a model of so many does not have."""
    if missing := [block for block in blocks if block not in range(count)]:
        raise UsageError(
            f"{model} has no block {missing[0]}", f"choose allocation.blocks (--blocks) from 0 to {count - 1}"
        )


def check_blocks_in(folder: Path, blocks: Iterable[int], model: str) -> None:
    """`check_blocks` of a pipeline's folder. One without SD3's transformer is refused where it is loaded."""
    config = folder / "transformer" / "config.json"
    count = read_config(config).get("num_layers") if config.is_file() else None
    if isinstance(count, int):
        check_blocks(blocks, count, model)
