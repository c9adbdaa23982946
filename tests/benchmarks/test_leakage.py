"""Leakage: known overlaps are counted, and only those."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import leakage
from star_bench.catalogue.shipped import SUITES_FOLDER
from star_bench.errors import MissingWeights, UsageError
from star_bench.evaluators.geneval.prompts import official, row

ROOT = Path(__file__).parents[2]


def suite(folder: Path, test: str, *, evaluator: str = "preference", training: str | None = None) -> str:
    """A suite of one's own with its two files beside the card."""
    prompts: dict[str, Any] = {"path": "test.txt"}
    (folder / "test.txt").write_text(test)
    if training is not None:
        (folder / "train.txt").write_text(training)
        prompts["training"] = {"path": "train.txt"}
    card = {"name": "mine", "title": "", "summary": "", "evaluator": evaluator, "licence": "", "prompts": prompts}
    (folder / "card.yaml").write_text(yaml.safe_dump(card))
    return str(folder)


def counts(rows: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    return {row["same"]: (row["in_training"], row["repeated_in_test"]) for row in rows}


def test_lines(tmp_path: Path) -> None:
    test = "a cat\nA  Dog\na fox\na FOX\n"
    rows = leakage.report([suite(tmp_path, test, training="a cat\na cat\n\na dog\na cow\n")])
    assert counts(rows) == {"line": (1, 0), "line, case and spaces apart": (2, 1)}
    assert [(row["test"], row["training"], row["share"]) for row in rows] == [(4, 4, 0.25), (4, 4, 0.5)]
    assert rows[1]["examples"] == {
        "in_training": [{"test": "a cat", "training": "a cat"}, {"test": "A  Dog", "training": "a dog"}],
        "repeated_in_test": [{"test": "a FOX", "earlier": "a fox"}],
    }
    assert leakage.warnings(rows) == []
    assert leakage.readable(rows[1])["share"] == "50.00%"


def test_targets(tmp_path: Path) -> None:
    test = 'a sign "OPEN"\na cup "open"\na hat "Hi there"\na bus "12"\n'
    training = 'a wall "o p e n"\na "12" and a "13"\na wall without words\na wall "HITHERE"\n'
    rows = leakage.report([suite(tmp_path, test, evaluator="ocr", training=training)])
    assert counts(rows)["target"] == (3, 1)
    assert rows[-1]["without"] == {"test": 0, "training": 2}
    (warning,) = leakage.warnings(rows)
    assert warning.startswith("2 training prompts of mine have no target")


def test_examples_are_the_first_twenty(tmp_path: Path) -> None:
    text = "".join(f"prompt {i}\n" for i in range(30))
    first = leakage.report([suite(tmp_path, text, training=text)])[0]
    assert first["in_training"] == 30
    assert [pair["test"] for pair in first["examples"]["in_training"]] == [f"prompt {i}" for i in range(20)]


def metadata(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def test_geneval_against_itself(tmp_path: Path) -> None:
    rows = leakage.report(["geneval"], metadata(tmp_path, *official()))
    assert {row["test"] for row in rows} == {553}
    assert [row["share"] for row in rows] == [1.0] * 4
    assert counts(rows)["scene"] == (553, 0)


def test_geneval_scenes_are_without_order(tmp_path: Path) -> None:
    two = next(r for r in official() if r["tag"] == "two_object")
    swapped = row("two_object", two["include"][::-1])
    rows = leakage.report(["geneval"], metadata(tmp_path, swapped))
    assert counts(rows)["line"][0] == 0
    assert rows[2]["examples"]["in_training"] == [{"test": two["prompt"], "training": swapped["prompt"]}]
    position = next(r for r in official() if r["tag"] == "position")
    anchor, placed = position["include"]
    relation = placed["position"]
    places_changed = row("position", [{"class": placed["class"], "count": 1}, {**anchor, "position": relation}])
    found = counts(leakage.report(["geneval"], metadata(tmp_path, places_changed)))
    assert found["scene"][0] == 0 and found["classes and relations"][0] == 1, "a left of b is not b left of a"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a photo of a cat", "line 2: invalid JSON"),
        ('{"tag": "colors", "prompt": "a photo of a cat"}', "line 2: include: it is missing"),
        ('{"tag": "colors", "prompt": "x", "include": []}', "at least 1 are needed"),
        (
            '{"tag": "colors", "prompt": "x", "include": [{"class": "cat", "count": 1, "position": ["above", 1]}]}',
            "refer to an earlier clause",
        ),
    ],
)
def test_a_geneval_file_that_is_none(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "train.jsonl").write_text("\n" + line + "\n")
    with pytest.raises(UsageError, match=says):
        leakage.report(["geneval"], tmp_path / "train.jsonl")


def test_what_can_not_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAR_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STAR_BENCH_PROMPTS_DIR", raising=False)
    mine = suite(tmp_path, "a cat\n")
    for names, training, says in [
        ([mine], None, "names no training set"),
        ([mine], tmp_path / "gone.txt", "can't be read"),
        ([], tmp_path / "test.txt", "needs the suites"),
    ]:
        with pytest.raises(UsageError, match=says):
            leakage.report(names, training)
    with pytest.raises(MissingWeights, match=r"run 'star-bench fetch --prompts ocr --training'"):
        leakage.report(["ocr"])


def test_as_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.leakage", "ocr-miniature", "--json", "--training"]
    command.append(str(SUITES_FOLDER / "ocr-miniature" / "prompts.txt"))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["same"]: row["in_training"] for row in rows}["target"] == 60
    assert len(rows[0]["examples"]["in_training"]) == 20
    environment = {**os.environ, "STAR_BENCH_PROMPTS_DIR": "", "XDG_CACHE_HOME": str(tmp_path)}
    missing = subprocess.run(
        [sys.executable, "-m", "benchmarks.leakage", "ocr"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert missing.returncode == MissingWeights.exit_code and "fetch --prompts ocr --training" in missing.stderr
