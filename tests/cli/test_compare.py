"""`star-bench compare` as a user meets it, on runs of the miniature."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = ["--suite", "preference-miniature", "--limit", "4", "--samples", "1"]


def cli(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "star_bench", *words], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models' runs: the miniature with two steps and with three."""
    out = tmp_path_factory.mktemp("compare")
    for steps in ("2", "3"):
        done = cli(out, "run", "--model", "miniature", *SUITE, "--steps", steps, "--runs", f"runs{steps}")
        assert done.returncode == 0, done.stderr
    return out


def test_refused_in_words_then_compared(folder: Path) -> None:
    models = ("runs2/miniature", "runs3/miniature")
    refused = cli(folder, "compare", *models)
    assert (refused.returncode, refused.stdout) == (4, "")
    assert "they differ in steps (2 in the first and 3 in the second)" in refused.stderr
    assert refused.stderr.endswith("with --allow steps.\n") and not (folder / "reports/compare").exists()

    done = cli(folder, "compare", *models, "--allow", "steps")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "miniature (steps 3)" in done.stdout and "Miniature preference" in done.stdout
    assert "unchanged." in done.stdout and "WAIVED (protocol): they differ in steps" in done.stdout
    page = folder / done.stderr.removeprefix("report: ").strip()
    assert page.is_file() and page.parent.name.startswith("compare-miniature-")


def test_json_alone_on_stdout(folder: Path) -> None:
    words = ("runs2/miniature", "runs3/miniature", "--allow", "protocol", "--allow", "stepz", "--json", "--out", "here")
    done = cli(folder, "compare", *words)
    assert done.returncode == 0
    data = json.loads(done.stdout)
    assert data["report"] == "here/index.html" and (folder / data["report"]).is_file()
    (found,) = data["comparisons"]
    assert found["waived"] == [{"part": "protocol", "field": "steps", "before": "2", "after": "3"}]
    assert found["metric"].startswith("Miniature preference [") and set(found["methods"]) >= {"difference", "p"}
    assert sum(found["images"].values()) == 4 and found["sentence"]
    assert "--allow stepz waived nothing" in done.stderr and "--allow protocol" not in done.stderr


def test_slips_have_codes(folder: Path) -> None:
    alone = cli(folder, "compare", "runs2/miniature")
    nowhere = cli(folder, "compare", "runs2/miniature", "nowhere")
    twice = cli(folder, "compare", "runs2/miniature", "runs2/miniature/preference-miniature")
    assert [each.returncode for each in (alone, nowhere, twice)] == [2, 2, 2]
    assert "there is no run 'nowhere'" in nowhere.stderr and "named twice" in twice.stderr
