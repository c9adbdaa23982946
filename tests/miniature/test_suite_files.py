"""The miniature's prompt files: as the code writes them, and nothing of a suite among what one trains on for it."""

from __future__ import annotations

from collections import Counter

from benchmarks import leakage
from star_bench.catalogue import suites
from star_bench.catalogue.shipped import SUITES_FOLDER
from star_bench.evaluators.geneval.evaluator import GenEval
from star_bench.evaluators.geneval.prompts import with_article
from star_bench.miniature.scenes import TRAINING_WORDS, is_held_out
from star_bench.miniature.suite_files import TRAINING_MIX, prompt_files

OTHER_WAY = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def test_committed_files_are_what_the_code_writes() -> None:
    for name, lines in prompt_files().items():
        assert (SUITES_FOLDER / name).read_text() == "\n".join(lines) + "\n", name


def test_nothing_that_is_tested_is_trained_on() -> None:
    rows = leakage.report(["geneval-miniature", "ocr-miniature", "preference-miniature"])
    # Eight classes leave no room: a cup of some colour is always the same classes as three cups.
    strict = [row for row in rows if row["same"] != "classes and relations"]
    assert {row["same"] for row in strict} == {"line", "line, case and spaces apart", "scene", "target"}
    assert all(row["in_training"] == 0 and row["training"] == 850 for row in strict)


def test_geneval_is_trained_on_in_its_mix_and_never_on_a_test_from_the_other_side() -> None:
    judge = GenEval(suites.load("geneval-miniature"))
    prompts = judge.training_prompts()
    assert Counter(p.tag for p in prompts) == {tag: 50 * part for tag, part in TRAINING_MIX.items()}
    trained = {p.text for p in prompts}
    positions = [p.metadata["include"] for p in judge.prompts() if p.tag == "position"]
    assert positions
    for anchor, placed in positions:
        first, second = (with_article(clause["class"]) for clause in (anchor, placed))
        assert f"a photo of {first} {OTHER_WAY[placed['position'][0]]} {second}" not in trained


def test_signs_show_everyday_words_and_random_capitals_and_none_that_is_held_out() -> None:
    shown = [line.split('"')[1] for line in prompt_files()["ocr-miniature/train.txt"]]
    assert not any(is_held_out(text) for text in shown)
    assert {len(text) for text in shown} == {3, 4, 5, 6}
    assert 0.4 < sum(text in TRAINING_WORDS for text in shown) / len(shown) < 0.6
