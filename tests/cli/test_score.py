"""Pictures and scores apart: drawn alone, judged later, by several suites, and resumed after a kill of either."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]
DRAWN = ("run", "--model", "miniature", "--limit", "4", "--steps", "2", "--device", "cpu")
BOTH = ("--suite", "preference-miniature,quality-miniature")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    def call(*words: str, folder: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "star_bench", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=280, check=False)

    return call


def rows(folder: Path, pattern: str) -> list[Any]:
    (path,) = folder.glob(pattern)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_drawn_alone_and_judged_later_is_what_one_command_makes(cli: Cli, tmp_path: Path) -> None:
    whole = cli(*DRAWN, *BOTH, folder=tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    assert "overview: reports/miniature-overview-" in whole.stderr

    apart = tmp_path / "apart"
    drawn = cli(*DRAWN, "--suite", "preference-miniature", "--no-score", "--json", folder=apart)
    assert drawn.returncode == 0, drawn.stderr
    said = json.loads(drawn.stdout)
    assert said["complete"] and said["counts"]["ok"] == 8
    assert not list(apart.glob("runs/miniature/preference-miniature")) and not (apart / "reports").exists()
    for suite in ("preference-miniature", "quality-miniature"):
        done = cli("score", said["pictures"], "--suite", suite, "--limit", "4", folder=apart)
        assert done.returncode == 0, done.stderr
    names = [path.relative_to(apart) for path in apart.glob("runs/*/*/*/results.json")]
    assert len(names) == 2
    for name in [*names, *(path.relative_to(apart) for path in apart.glob("runs/*/pictures/*/images/*/*.png"))]:
        assert (apart / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    again = cli("score", "latest", "--suite", "preference-miniature", "--limit", "4", folder=apart)
    assert again.returncode == 0, again.stderr
    assert len(rows(apart, "runs/*/preference-miniature/*/scores.jsonl")) == 8, "nothing is judged twice"


def test_what_cant_be_judged(cli: Cli, tmp_path: Path) -> None:
    done = cli(*DRAWN, "--suite", "preference-miniature", "--samples", "1", "--no-score", "--json")
    pictures = json.loads(done.stdout)["pictures"]
    for words, code, sentence in (
        (
            (pictures, "--suite", "ocr-miniature", "--limit", "4"),
            4,
            "are not those of the pictures (the first: '00000'",
        ),
        ((pictures, "--suite", "preference-miniature"), 4, "prompts of suite 'preference-miniature' are not those"),
        ((pictures, "--suite", "preference-miniature", "--limit", "2"), 4, "give --limit 4"),
        ((pictures, "--suite", "quality-miniature", "--limit", "4"), 3, "holds 4 of the 8 pictures"),
        (("nowhere", "--suite", "quality-miniature"), 2, "there is no run 'nowhere'"),
        ((pictures, "--suite", "quality-miniatur"), 2, "did you mean 'quality-miniature'"),
    ):
        done = cli("score", *words)
        assert (done.returncode, sentence in done.stderr) == (code, True), f"{words}: {done.returncode} {done.stderr}"
        assert done.stderr.count("Traceback") == 0
    one = cli("score", pictures, "--suite", "quality-miniature", "--limit", "4", "--samples", "1", "--json")
    assert one.returncode == 0, one.stderr
    assert json.loads(one.stdout)["counts"]["ok"] == 4
    twice = cli(*DRAWN, "--suite", "quality-miniature", "--suite", "quality-miniature")
    assert twice.returncode == 2 and "'quality-miniature' is named twice" in twice.stderr


@pytest.mark.parametrize("where", ["drawing", "scoring"])
def test_killed_while_it_draws_or_judges_it_goes_on_to_the_same_bytes(cli: Cli, tmp_path: Path, where: str) -> None:
    whole = tmp_path / "whole"
    assert cli(*DRAWN, *BOTH, "--batch-size", "2", folder=whole).returncode == 0
    folder = tmp_path / "killed"
    folder.mkdir()
    pattern = "runs/*/pictures/*/samples.jsonl" if where == "drawing" else "runs/*/preference-miniature/*/scores.jsonl"
    command = [sys.executable, "-m", "star_bench", *DRAWN, *BOTH, "--batch-size", "2"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while child.poll() is None and not any(path.stat().st_size for path in folder.glob(pattern)):
            time.sleep(0.002)
        child.kill()
    done = cli(*DRAWN, *BOTH, "--batch-size", "2", folder=folder)
    assert done.returncode == 0, done.stderr
    names = [path.relative_to(whole) for path in whole.glob("runs/*/*/*/results.json")]
    names += [path.relative_to(whole) for path in whole.glob("runs/*/pictures/*/images/*/*.png")]
    assert len(names) == 2 + 8
    assert [name for name in names if (folder / name).read_bytes() != (whole / name).read_bytes()] == []
    assert len(rows(folder, "runs/*/pictures/*/samples.jsonl")) == 8
    for suite in ("preference-miniature", "quality-miniature"):
        assert len(rows(folder, f"runs/*/{suite}/*/scores.jsonl")) == 8
