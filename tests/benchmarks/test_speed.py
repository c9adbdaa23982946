"""The speed benchmarks run, agree on the pictures, and say what they measured. No time is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.speed import generation, growth, training
from benchmarks.speed.__main__ import RESULTS, goals, summary


@pytest.mark.slow
def test_generation_agrees_with_plain_loops() -> None:
    result = generation.measure("cpu", 1, quick=True)
    assert max(result["miniature"]["largest difference of a pixel, of 255"].values()) <= 1
    assert set(result["miniature"]["plain loop / star-bench"]) == {"per prompt", "batched"}
    assert "Generation: speed on CPU" in generation.to_markdown(result)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_plain_loops_decode_half_latents_in_float32_as_a_run_does(dtype: str, tmp_path: Path) -> None:
    ways = generation.Miniature("cpu", tmp_path, 2, dtype)
    assert ways.pipe.transformer.dtype == getattr(torch, dtype) and ways.pipe.vae.dtype == torch.float32
    assert max(ways.apart().values()) <= 1


@pytest.mark.gpu
def test_generation_agrees_with_plain_loops_on_a_gpu() -> None:
    result = generation.miniature("cuda", 1, 2)
    assert set(result["plain loop / star-bench"]) == {"per prompt", "batched"}


@pytest.mark.slow
def test_growth_measures_all_its_parts() -> None:
    result = growth.measure("cpu", quick=True)
    (row,) = result["pictures"]
    assert row["pictures"] == 58 and row["peak, MiB"] > 100
    assert [row["tokens"] for row in result["resolutions"]] == [16, 64]
    assert "## Workers" in growth.to_markdown(result)


def test_a_batch_of_the_network_alone_is_drawn_and_learned() -> None:
    result = training.network("cpu", 1, tiny=True)
    assert set(result["STAR / uniform"]) >= {"epoch", "collect", "update"}
    assert result["recorded / plain forward"]["median"] > 0


def test_the_summary_says_of_each_committed_goal_whether_it_was_met() -> None:
    text = summary()
    for path in RESULTS.glob("*.json"):
        result = json.loads(path.read_text())
        for goal in goals(path.stem.partition("-")[0], result):
            assert f"| {goal.what} | {goal.measured:.2f} |" in text
            assert (goal.cells[-1] == "met") == (
                goal.measured <= goal.goal if goal.at_most else goal.measured >= goal.goal
            )
