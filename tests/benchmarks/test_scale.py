"""The capacity page comes from its model, and the simulation from real files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scale.cost import GPUS, recipe_cost, suite_cost


def test_geneval_costs_what_its_forwards_cost() -> None:
    """2,212 images of 40 steps with guidance: 2.224 TFLOP a forward, and 2.5 for the decoding of each."""
    cost = suite_cost("geneval")
    assert cost.pictures == 2212
    assert cost.pflop == pytest.approx(2212 * (80 * 2.224 + 2.5) / 1e3, rel=0.01)
    assert cost.hours(GPUS["A100 80GB"]) == pytest.approx(cost.pflop * 1e15 / (312e12 * 0.45) / 3600)


def test_star_costs_what_flow_grpo_costs() -> None:
    """The allocation is some vectors' sums beside the network's forwards."""
    assert recipe_cost("star-geneval").pflop == pytest.approx(recipe_cost("flow-grpo-geneval").pflop, rel=0.01)


def test_a_small_simulation_writes_the_page(tmp_path: Path) -> None:
    words = [
        "--runs",
        "3",
        "--rounds",
        "1",
        "--price",
        "L40S=9",
        "--out",
        str(tmp_path),
        "--page",
        str(tmp_path / "page.md"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", *words, "--page", str(tmp_path / "page.md")],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert set(found["simulation"]["seconds"]) == {"--version", "ls runs", "leaderboard", "compare"}
    assert [check["ratio"] for check in found["checks"]] == pytest.approx([1, 1, 1], abs=0.01)
    page = (tmp_path / "page.md").read_text()
    assert "| L40S | 362 | 9 |" in page and "${" not in page
