"""Packages as `star-bench init` writes them, installed and used as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a suite, an evaluator and a generator were written, and installed into site/."""
    folder = tmp_path_factory.mktemp("init")
    for part, name in (("suite", "my-signs"), ("evaluator", "glow"), ("generator", "confetti")):
        done = call(folder, "init", part, name)
        assert done.returncode == 0, done.stderr
        assert f"pip install -e {name}" in done.stderr
    command = [
        str(Path(sys.executable).with_name("uv")),
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
    ]
    names = ["./my-signs", "./glow", "./confetti"]
    subprocess.run([*command, "--python", sys.executable, "--target", "site", *names], cwd=folder, check=True)
    return folder


def call(folder: Path, *words: str, site: bool = False) -> subprocess.CompletedProcess[str]:
    paths = [str(Path(__file__).parents[2]), *([str(folder / "site")] if site else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "star_bench", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_all_three_work_together(installed: Path) -> None:
    done = call(installed, "run", "--model", "confetti", "--suite", "my-signs,glow", "--json", site=True)
    assert done.returncode == 0, done.stderr
    signs, glow = json.loads(done.stdout)
    assert (signs["suite"], signs["counts"]["ok"], glow["suite"], glow["counts"]["ok"]) == ("my-signs", 6, "glow", 6)
    assert (
        0.3 < glow["aggregates"][0]["value"] < 0.7
        and glow["metric"]["identity"] == "Brightness [share of white], glow 1"
    )
    assert len(list(installed.glob("runs/confetti/pictures/*"))) == 1, "the two have the same prompts"
    assert "overview: " in done.stderr
    again = call(installed, "run", "--model", "confetti", "--suite", "glow", "--dry-run", "--json", site=True)
    assert json.loads(again.stdout)["already_made"] == 6


def test_they_are_listed_and_a_generator_has_settings_of_its_own(installed: Path, tmp_path: Path) -> None:
    done = call(installed, "ls", "suites", "--json", site=True)
    assert {"my-signs", "glow", "geneval"} <= {row["name"] for row in json.loads(done.stdout)}
    done = call(installed, "run", "--model", "confetti", "--suite", "glow", "--steps", "3", site=True)
    assert done.returncode == 2 and "confetti draws by its own settings" in done.stderr
    done = call(tmp_path, "run", "--model", "confetti", "--suite", "glow")
    assert done.returncode == 2 and "there is no suite named 'glow'" in done.stderr, "without the packages"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("suite", "geneval"), "there is a suite named 'geneval' already"),
        (("evaluator", "geneval"), "there is a evaluator named 'geneval' already"),
        (("generator", "miniature"), "there is a generator named 'miniature' already"),
        (("suite", "My Suite"), "can't be a package's name"),
        (("suite", "full"), "full is there already"),
        (("model", "x"), "'model' can't be begun: choose one of evaluator, generator, suite"),
    ],
)
def test_what_cant_be_written(tmp_path: Path, words: tuple[str, str], sentence: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    done = call(tmp_path, "init", *words)
    assert done.returncode == 2 and sentence in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


OWN = """
{name}:
  source: {{path: {path}}}
  precision: float16
  licence: mine
  generation: {{height: 64, width: 64, steps: 2, guidance_scale: 1.0, negative_prompt: "", max_sequence_length: 16}}
"""


def test_checkpoints_of_ones_own(tmp_path: Path) -> None:
    from star_bench.catalogue.shipped import MINIATURE_FOLDER

    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "small").symlink_to(MINIATURE_FOLDER / "pipeline")
    (tmp_path / "checkpoints.yaml").write_text(OWN.format(name="mine", path="models/small"))
    (tmp_path / "models" / "more.yaml").write_text(OWN.format(name="theirs", path="small"))
    names = {row["name"]: row for row in json.loads(call(tmp_path, "ls", "models", "--json").stdout)}
    assert {"mine", "sdxl"} <= names.keys() and "theirs" not in names
    words = ("--suite", "preference-miniature", "--limit", "1", "--dry-run", "--json")
    mine = call(tmp_path, "run", "--model", "mine", *words)
    assert mine.returncode == 0, mine.stderr
    assert json.loads(mine.stdout)["protocol"]["steps"] == 2
    both = call(tmp_path, "run", "--models", "models/more.yaml", "--model", "theirs", *words)
    assert both.returncode == 0, both.stderr
    (tmp_path / "models" / "more.yaml").write_text(OWN.format(name="sdxl", path="small"))
    twice = call(tmp_path, "run", "--models", "models/more.yaml", "--model", "mine", *words)
    assert twice.returncode == 2 and "give yours another name" in twice.stderr
    lost = call(tmp_path, "run", "--models", "nowhere.yaml", "--model", "mine", *words)
    assert lost.returncode == 2 and "nowhere.yaml is not there" in lost.stderr
