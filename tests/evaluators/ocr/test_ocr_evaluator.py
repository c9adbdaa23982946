"""The OCR evaluator with the real reader on rendered text, and with readers that fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from star_bench.catalogue import suites
from star_bench.errors import UsageError
from star_bench.evaluators.base import Prompt, Status, check_canaries
from star_bench.evaluators.ocr.evaluator import Ocr, drawn_word, length_class
from star_bench.miniature.scenes import SMALL, draw_row, sign_row
from star_bench.miniature.suite_files import ocr_prompts


@pytest.fixture(scope="module")
def miniature() -> Ocr:
    return Ocr(suites.load("ocr-miniature"))


def sign(word: str) -> np.ndarray:
    return draw_row(SMALL, np.random.default_rng(0), sign_row(word)).image


def prompt(word: str) -> Prompt:
    return Prompt("00000", f'a sign that says "{word}"')


@pytest.mark.parametrize("suite", ["ocr", "ocr-miniature"])
def test_canaries_pass_on_both_cards(suite):
    assert check_canaries(Ocr(suites.load(suite))) == 2


def test_shipped_prompts_are_what_the_code_writes(miniature):
    assert [p.text for p in miniature.prompts()] == ocr_prompts()
    assert len({p.id for p in miniature.prompts()}) == 60
    assert all(p.metadata["target"] in p.text for p in miniature.prompts())


def test_true_scenes_are_read(miniature):
    chosen = miniature.prompts()[:10]
    scores = miniature.score([sign(p.metadata["target"]) for p in chosen], chosen)
    assert np.mean([s.value for s in scores]) > 0.95
    assert scores[0].detail == {"target": "VIDEO", "read": ["VIDEO"], "distance": 0}


def test_a_score_does_not_depend_on_its_batch(miniature):
    images, prompts = (
        [sign("MOON"), sign("LAKE"), drawn_word("MOON", 64)],
        [prompt("MOON")] * 3,
    )
    together = miniature.score(images, prompts)
    assert together == [miniature.score([i], [p])[0] for i, p in zip(images, prompts, strict=True)]
    assert together[0].value == 1.0
    assert together[1].value < 1.0
    assert miniature.reward(images, prompts) == [s.value for s in together]


def test_a_picture_that_is_no_picture_has_no_score(miniature):
    odd = [np.full((64, 64, 3), np.nan), np.zeros((64, 64), np.uint8), np.zeros((0, 64, 3), np.uint8)]
    *bad, good = miniature.score([*odd, sign("MOON")], [prompt("MOON")] * 4)
    assert [(s.value, s.status) for s in bad] == [(None, Status.ERROR)] * 3
    assert bad[0].detail == {"error": "a picture is uint8 (height, width, 3) and not float64 (64, 64, 3)"}
    assert good.value == 1.0
    assert miniature.reward([odd[0], sign("MOON")], [prompt("MOON")] * 2) == [None, 1.0]


def test_aggregates(miniature):
    scores = miniature.score([sign("MOON"), sign("MOAN")], [prompt("MOON")] * 2)
    mean, exact = (np.mean([a.value(s) for s in scores]) for a in miniature.aggregates)
    assert (mean, exact) == (0.875, 0.5)


def test_identity_and_digests_hold_all_that_judges(miniature):
    full = Ocr(suites.load("ocr"))
    assert "rapidocr PP-OCRv6_det_small + PP-OCRv6_rec_small, x4 bicubic" in miniature.metric.identity
    assert full.metric.identity != miniature.metric.identity
    assert full.judges().keys() == miniature.judges().keys()
    assert {k for k, v in full.judges().items() if v != miniature.judges()[k]} == {
        "rapidocr settings",
        "upscale",
    }


def own_suite(folder: Path, text: str, **judges: object) -> Ocr:
    (folder / "prompts.txt").write_text(text)
    card = suites.load("ocr-miniature")
    source = card.prompts.model_copy(update={"sha256": None})
    changes = {"prompts": source, "folder": folder, "judges": {**card.judges, **judges}}
    return Ocr(card.model_copy(update=changes))


def test_a_reader_that_dies_gives_no_score_and_spares_the_rest(tmp_path, odd):
    suite = own_suite(tmp_path, 'a "cat"\n', recogniser=odd, settings={}, upscale=1)
    dies, reads = np.full((2, 3, 3), 1, np.uint8), np.full((2, 3, 3), 50, np.uint8)
    bad, good = suite.score([dies, reads], [Prompt("00000", 'the size "3X2"')] * 2)
    assert (bad.value, bad.status) == (None, Status.ERROR)
    assert bad.detail == {"error": "the reader's process ended with exit code 7"}
    assert (good.value, good.detail["read"]) == (1.0, ["3x2", "50"])


def test_prompts_without_one_target_are_refused_with_their_lines(tmp_path):
    text = 'a "cat"\na "cat" and a "dog"\na "bird"\na cat\n' + 'a ""\n' * 5
    with pytest.raises(UsageError) as caught:
        own_suite(tmp_path, text).prompts()
    assert "line 2 holds 4 straight double quotes and not 2; line 4 holds 0 straight" in caught.value.problem
    assert "line 7 holds an empty quotation; and 2 more" in caught.value.problem


def test_results_are_grouped_by_the_length_of_the_target(tmp_path, miniature):
    assert {p.tag for p in miniature.prompts()} == {"1-8 characters"}
    suite = own_suite(tmp_path, 'a "12345678"\na "1 2 3 4 5 6 7 8 9"\na "' + "x" * 21 + '"\n')
    assert [p.tag for p in suite.prompts()] == ["1-8 characters", "9-12 characters", "21+ characters"]


@pytest.mark.parametrize(
    ("length", "name"),
    [(1, "1-8"), (8, "1-8"), (9, "9-12"), (12, "9-12"), (13, "13-16"), (17, "17-20"), (20, "17-20"), (21, "21+")],
)
def test_length_classes(length, name):
    assert length_class("x " * length) == f"{name} characters"


@pytest.mark.parametrize(
    ("judges", "says"),
    [
        ({"upscal": 4}, "did you mean 'upscale'"),
        ({"upscale": 0}, "upscale: 0 is below 1"),
        ({"recogniser": "rapidocrr"}, "did you mean 'rapidocr'"),
        ({"settings": {"det_limit_side": 4}}, "did you mean 'det_limit_side_len'"),
    ],
)
def test_wrong_judge_settings_are_named(tmp_path, judges, says):
    with pytest.raises(UsageError, match=says):
        own_suite(tmp_path, 'a "cat"\n', **judges)
