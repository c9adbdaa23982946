"""Training prompts: every evaluator's, by line, with ids that seed noise of their own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from star_bench.catalogue import suites
from star_bench.catalogue.suites import TrainingSource
from star_bench.errors import MissingWeights, Refused, UsageError
from star_bench.evaluators.base import Evaluator
from star_bench.evaluators.geneval.evaluator import GenEval
from star_bench.evaluators.geneval.prompts import counting_row, row
from star_bench.evaluators.ocr.evaluator import Ocr
from star_bench.evaluators.pickscore.evaluator import Preference
from star_bench.evaluators.quality.evaluator import Quality

EVALUATORS: dict[str, type[Evaluator]] = {
    "geneval-miniature": GenEval,
    "ocr-miniature": Ocr,
    "preference-miniature": Preference,
    "quality-miniature": Quality,
}
CUPS = counting_row("cup", 3)


def trained_on(suite: str, file: Path, text: str, **source: Any) -> Evaluator:
    """The shipped suite with a training file of one's own."""
    file.write_text(text)
    card = suites.load(suite)
    prompts = card.prompts.model_copy(update={"training": TrainingSource(path=str(file), **source)})
    return EVALUATORS[suite](card.model_copy(update={"prompts": prompts}))


@pytest.mark.parametrize("suite", list(EVALUATORS)[:3])
def test_the_miniatures_are_ready_to_train_on(suite: str) -> None:
    evaluator = EVALUATORS[suite](suites.load(suite))
    prompts = evaluator.training_prompts()
    assert len(prompts) == 850 and evaluator.training_notes() == []
    assert prompts == evaluator.training_prompts()
    tests = evaluator.prompts()
    assert not {p.id for p in prompts} & {p.id for p in tests}
    assert not {p.text for p in prompts} & {p.text for p in tests}
    assert len({p.id for p in prompts}) == len({p.text for p in prompts}) == len({(p.id, p.text) for p in prompts})


def test_a_text_on_several_lines_is_drawn_more_often_and_is_one_prompt(tmp_path: Path) -> None:
    text = "a red car\n\n a blue chair\na red car \na cup\n"
    prompts = trained_on("preference-miniature", tmp_path / "train.txt", text).training_prompts()
    assert [(p.id, p.text) for p in prompts] == [
        ("train-00000", "a red car"),
        ("train-00002", "a blue chair"),
        ("train-00000", "a red car"),
        ("train-00004", "a cup"),
    ]


def test_signs_without_one_target_are_left_out_and_told(tmp_path: Path) -> None:
    text = 'a "CAT"\na cat\n\n"A" and "B"\na "CAT"\na longer "WORD OF NINE"\n'
    signs = trained_on("ocr-miniature", tmp_path / "train.txt", text)
    assert [(p.id, p.tag, p.metadata["target"]) for p in signs.training_prompts()] == [
        ("train-00000", "1-8 characters", "CAT"),
        ("train-00000", "1-8 characters", "CAT"),
        ("train-00005", "9-12 characters", "WORD OF NINE"),
    ]
    (note,) = signs.training_notes()
    assert note.startswith("2 of 5 training prompts of suite 'ocr-miniature'")
    assert note.endswith(
        "line 2 holds 0 straight double quotes and not 2; line 4 holds 4 straight double quotes and not 2"
    )
    with pytest.raises(UsageError, match=r"no training prompt of suite .* line 1 holds 0"):
        trained_on("ocr-miniature", tmp_path / "train.txt", "a cat\n").training_prompts()


def test_geneval_trains_on_metadata_that_it_can_judge(tmp_path: Path) -> None:
    text = "".join(json.dumps(each) + "\n" for each in (CUPS, {**CUPS, "more": 1} | {"prompt": "3 cups"}, CUPS))
    prompts = trained_on("geneval-miniature", tmp_path / "train.jsonl", text).training_prompts()
    assert [(p.id, p.text, p.tag) for p in prompts] == [
        ("train-00000", "a photo of three cups", "counting"),
        ("train-00001", "3 cups", "counting"),
        ("train-00000", "a photo of three cups", "counting"),
    ]
    assert prompts[0].metadata == CUPS and prompts[1].metadata["more"] == 1


def test_rows_that_differ_in_free_keys_alone_are_one_prompt(tmp_path: Path) -> None:
    text = "".join(json.dumps({**CUPS, "index": index}) + "\n" for index in ("00000", "00001"))
    prompts = trained_on("geneval-miniature", tmp_path / "train.jsonl", text).training_prompts()
    assert [p.id for p in prompts] == ["train-00000", "train-00000"]


KITE = {"class": "kite", "count": 1}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "invalid JSON"),
        (json.dumps({"tag": "counting", "prompt": "x"}), "include: it is missing"),
        (json.dumps({**CUPS, "include": [{"class": "cup", "count": 0}]}), "include.0.count"),
        (json.dumps({**CUPS, "include": [{**KITE, "color": None}]}), "include.0.color"),
        (json.dumps(counting_row("dog", 2)), "class 'dog'"),
        (json.dumps({**CUPS, "exclude": [{"class": "dog", "count": 1}]}), "class 'dog'"),
        (json.dumps(row("colors", [{**KITE, "color": "orange"}])), "colour 'orange'"),
        (json.dumps(row("position", [KITE, {**KITE, "position": ["near", 0]}])), "relation 'near'"),
        (json.dumps({**CUPS, "tag": "count"}), "tag 'count'"),
        (json.dumps({**CUPS, "include": [KITE]}), "has the prompt of line 1"),
        (json.dumps({**CUPS, "exclude": [KITE]}), "has the prompt of line 1"),
        (json.dumps({**CUPS, "tag": "colors"}), "has the prompt of line 1"),
    ],
)
def test_a_row_that_geneval_cannot_judge_is_told_with_its_line(tmp_path: Path, line: str, says: str) -> None:
    file = tmp_path / "train.jsonl"
    judge = trained_on("geneval-miniature", file, f"{json.dumps(CUPS)}\n\n{line}\n")
    with pytest.raises(UsageError) as caught:
        judge.training_prompts()
    sentence = str(caught.value)
    assert f"{file}, line 3" in sentence and says in sentence and "\n" not in sentence


def test_a_suite_without_training_prompts_says_so() -> None:
    with pytest.raises(UsageError, match="the card of suite 'quality-miniature' names no training prompts"):
        Quality(suites.load("quality-miniature")).training_prompts()


def test_training_files_are_found_and_checked_as_prompts_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAR_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STAR_BENCH_PROMPTS_DIR", raising=False)
    with pytest.raises(MissingWeights, match="fetch --prompts geneval --training"):
        GenEval(suites.load("geneval")).training_prompts()
    digest = "sha256:" + hashlib.sha256(b"another").hexdigest()
    with pytest.raises(Refused, match="the card asks for"):
        trained_on("preference-miniature", tmp_path / "train.txt", "a cup\n", digest=digest).training_prompts()
