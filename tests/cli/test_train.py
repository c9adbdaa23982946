"""`star-bench train` and `register` as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from small_training import TINY


def star_bench(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "star_bench", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=250,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment},
    )


def settings(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def test_a_trained_lora_runs_at_once(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    where = ["--out", out, "--reports", tmp_path / "reports", "--device", "cpu"]
    trained = star_bench(
        "train",
        "--recipe",
        "flow-grpo-geneval-mini",
        *settings(*TINY, "epochs=1", "rollout.prompts=8"),
        *where,
        "--json",
    )
    assert trained.returncode == 0, trained.stderr
    said = json.loads(trained.stdout)
    assert said["recipe"] == "flow-grpo-geneval-mini"
    assert Path(said["report"]).is_file()
    assert list(out.rglob("events.out.tfevents*")), "TensorBoard's events"
    runs = ["--runs", tmp_path / "runs", "--reports", tmp_path / "reports"]
    judged = star_bench("run", "--model", out, "--suite", "geneval-miniature", "--limit", "2", *runs, "--json")
    assert judged.returncode == 0, judged.stderr
    results = json.loads(judged.stdout)
    assert results["model"]["name"] == "mine"
    assert results["protocol"]["guidance_scale"] == said["settings"]["rollout"]["guidance_scale"]


def test_dry_run_needs_no_weights_and_writes_nothing(tmp_path: Path) -> None:
    words = ["train", "--recipe", "star-geneval", "--processes", "8", "--out", tmp_path / "x"]
    done = star_bench(*words, "--dry-run", "--json", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    rows = {row["what"]: row["value"] for row in json.loads(done.stdout)}
    assert (rows["images per epoch"], rows["processes"]) == (1152, 8)
    refused = star_bench(*words)
    assert refused.returncode == 2
    assert "--processes is for --dry-run alone" in refused.stderr
    assert not (tmp_path / "x").exists()


def test_gated_weights_are_named_with_what_to_do_before_anything_is_computed(tmp_path: Path) -> None:
    done = star_bench(
        "train", "--recipe", "star-geneval", "--out", tmp_path / "x", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf")
    )
    assert done.returncode == 4
    assert len(done.stderr.strip().splitlines()) == 1
    assert "stabilityai/stable-diffusion-3.5-medium" in done.stderr
    assert not (tmp_path / "x").exists()


def test_an_unknown_recipe_and_an_unknown_setting_are_named() -> None:
    wrong = star_bench("train", "--recipe", "star-genevl-mini", "--dry-run")
    assert wrong.returncode == 2
    assert "did you mean 'star-geneval-mini'" in wrong.stderr
    wrong = star_bench("train", "--recipe", "star-geneval-mini", "--set", "rollout.step=3", "--dry-run")
    assert wrong.returncode == 2
    assert "rollout.step" in wrong.stderr


CARD = """\
name: unread
title: signs that the miniature can't write
summary: every reward is 0
evaluator: ocr
licence: MIT
prompts: {path: prompts.txt, training: {path: train.txt}}
judges: {recogniser: rapidocr, upscale: 4, settings: {det_limit_side_len: 384}}
protocol: {samples: 1}
"""


def test_a_training_that_learns_nothing_says_so_marks_its_card_and_is_not_done(tmp_path: Path) -> None:
    suite, out = tmp_path / "suite", tmp_path / "out"
    suite.mkdir()
    for name, words in (("train.txt", ("欢迎", "光临", "开放")), ("prompts.txt", ("出口",))):
        (suite / name).write_text("".join(f'a sign that says "{word}"\n' for word in words), encoding="utf-8")
    (suite / "card.yaml").write_text(CARD, encoding="utf-8")
    asked = settings(*TINY, "epochs=2", f"rewards=[{{suite: {suite}, of: score}}]")
    done = star_bench(
        *("train", "--recipe", "flow-grpo-geneval-mini", *asked, "--out", out, "--reports", tmp_path, "--device", "cpu")
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("nothing was learned in epoch") == 1
    assert "nothing was learned in epoch 1: the rewards of every group are all equal" in done.stderr
    assert "no update was made in any of 2 epochs" in done.stderr
    assert "trained:" not in done.stderr
    assert "nothing was learned in epoch 1" in (out / "log.jsonl").read_text(encoding="utf-8")
    said = "NOTHING LEARNED: nothing was learned in 2 of 2 epochs"
    assert [notice["text"] for notice in json.loads((out / "card.json").read_bytes())["notices"]] == [said]
    assert said in (tmp_path / "training-out" / "index.html").read_text(encoding="utf-8")
