"""`star-bench masks` and `miniature localise` as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from star_bench.cli.main import app
from star_bench.errors import UsageError

Cli = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """cli("masks", ...) in an empty folder, in this process: a start takes longer than the maps."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, words)


def test_a_recipes_maps_on_a_page(cli: Cli, tmp_path: Path) -> None:
    """The suite that rewards in the recipe knows the first prompt, and no suite the second."""
    known, free = "a photo of a red car", "a green banana beside a clock"
    done = cli(
        *("masks", "--recipe", "star-geneval-mini", "--prompt", known, "--prompt", free),
        *("--blocks", "0,4", "--steps", "4", "--rollouts", "1", "--set", "allocation.tokens=clip", "--json"),
    )
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    page = tmp_path / said["report"]
    assert page.parent.parent == tmp_path / "reports"
    assert page.parent.name.startswith("masks-miniature-")
    assert known in page.read_text(encoding="utf-8")
    first, second = said["prompts"]
    assert (first["words"], second["words"]) == (["red", "car"], ["green", "banana", "clock"])
    assert len(first["steps"]) == 4
    assert first["settings"]["blocks"] == "0, 4"
    assert all(len(one["overlap"]["iou"]) == 4 for one in first["maps"])
    assert all(one["overlap"] is None for one in second["maps"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "miniature"], "nothing says which prompt to draw"),
        (["--prompt", "a car"], "nothing says which model to draw"),
        (["--model", "miniature", "--prompt", "a car", "--set", "seed=1"], "--set changes a recipe"),
        (["--model", "miniature", "--prompt", "a car", "--blocks", "a"], "--blocks: blocks.0"),
        (
            ["--model", "miniature", "--prompt", "a car", "--blocks", "9"],
            "miniature has no block 9: choose",
        ),
        (["--recipe", "flow-grpo-geneval-mini", "--prompt", "a car"], "'uniform' is 1 everywhere"),
    ],
)
def test_what_can_not_be_drawn_is_said(cli: Cli, words: list[str], said: str) -> None:
    error = cli("masks", *words).exception
    assert isinstance(error, UsageError)
    assert said in str(error)


def test_localise_prints_a_row_per_part_and_map(cli: Cli) -> None:
    done = cli("miniature", "localise", "--count", "1", "--steps", "2", "--blocks", "0,4", "--json")
    assert done.exit_code == 0, done.stderr
    maps = json.loads(done.stdout)["maps"]
    assert [(one["blocks"], one["part"], one["subject"]) for one in maps] == [
        ([0, 4], part, subject) for part in ("clip", "t5", "both") for subject in ("object", "prompt")
    ]
