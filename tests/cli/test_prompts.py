"""`star-bench prompts` as a user meets it: rows, exit codes, one sentence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from star_bench.catalogue.shipped import SUITES_FOLDER
from star_bench.errors import Incomplete, MissingWeights, Refused

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """cli("prompts", "verify", ...) with an empty cache, behind a proxy that is down."""
    environment = {
        **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        "STAR_BENCH_CACHE": str(tmp_path / "cache"),
        "STAR_BENCH_PROMPTS_DIR": "",
        "https_proxy": "http://127.0.0.1:9",
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
    }

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "star_bench", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    return call


def test_verify_tells_the_states_apart(cli: Cli, tmp_path: Path) -> None:
    good = cli("prompts", "verify", "ocr-miniature", "--json")
    assert good.returncode == 0, good.stderr
    (row,) = json.loads(good.stdout)
    assert (row["suite"], row["state"], row["prompts"], row["different"]) == ("ocr-miniature", "ok", 60, 60)

    absent = cli("prompts", "verify", "ocr-miniature", "drawbench")
    assert absent.returncode == Incomplete.exit_code
    assert "absent" in absent.stdout and "star-bench fetch --prompts drawbench'" in absent.stderr

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "drawbench-test.txt").write_text("a cat\n")
    other = cli("prompts", "verify", "drawbench", "--prompts-dir", "mine", "--json")
    assert other.returncode == Refused.exit_code
    assert json.loads(other.stdout)[0]["state"] == "another content" and "has sha256" in other.stderr


def test_fetch_without_a_network_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    done = cli("fetch", "--prompts", "ocr", "--training")
    assert done.returncode == MissingWeights.exit_code and done.stdout == ""
    (sentence,) = done.stderr.split("\n")[-2:-1]
    assert "yifan123/flow_grpo at main" in sentence and "star-bench fetch --prompts ocr" in sentence
    assert "Traceback" not in done.stderr and not (tmp_path / "cache").exists()


def test_a_prompts_folder_that_is_not_there(cli: Cli) -> None:
    done = cli("prompts", "verify", "ocr", "--prompts-dir", "nowhere")
    assert done.returncode == 2 and "nowhere" in done.stderr


def test_run_takes_prompts_from_a_folder(cli: Cli, tmp_path: Path) -> None:
    shutil.copytree(SUITES_FOLDER / "ocr-miniature", tmp_path / "suite")
    card = yaml.safe_load((tmp_path / "suite" / "card.yaml").read_text())
    card["prompts"] |= {"path": "dataset/signs/test.txt", "repository": "someone/signs"}
    (tmp_path / "suite" / "card.yaml").write_text(yaml.safe_dump(card))
    (tmp_path / "mine").mkdir()
    (tmp_path / "suite" / "prompts.txt").rename(tmp_path / "mine" / "signs-test.txt")
    done = cli("run", "--model", "miniature", "--suite", "suite", "--dry-run", "--json", "--prompts-dir", "mine")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["prompts"] == 60
