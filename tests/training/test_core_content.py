"""The words that the attention map starts from, in prompts of every kind."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from star_bench.catalogue import suites
from star_bench.errors import UsageError
from star_bench.evaluators.base import Prompt
from star_bench.evaluators.geneval.prompts import COCO_CLASSES, COLORS, official, plural, row
from star_bench.evaluators.ocr.evaluator import Ocr
from star_bench.training.core_content import core_words, free_words


def geneval(metadata: dict) -> Prompt:
    return Prompt("0", metadata["prompt"], metadata["tag"], metadata)


def quoted(text: str, target: str) -> Prompt:
    return Prompt("0", text, "", {"target": target})


def marked(prompt: Prompt) -> str:
    """The prompt with every core word in brackets: shows which of several equal words was found."""
    out = prompt.text
    for word in reversed(core_words(prompt)):
        out = f"{out[: word.start]}[{out[word.start : word.end]}]{out[word.end :]}"
    return out


def one(name: str, **more: object) -> dict:
    return {"class": name, "count": 1, **more}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (row("single_object", [one("traffic light")]), "a photo of a [traffic light]"),
        (row("two_object", [one("dog"), one("hot dog")]), "a photo of a [dog] and a [hot dog]"),
        (row("two_object", [one("hot dog"), one("dog")]), "a photo of a [hot dog] and a [dog]"),
        (row("two_object", [one("tv remote"), one("tv")]), "a photo of a [tv remote] and a [tv]"),
        (row("counting", [{"class": "bench", "count": 3}]), "a photo of [three] [benchs]"),
        (row("counting", [{"class": "tennis racket", "count": 2}]), "a photo of [two] [tennis rackets]"),
        (row("colors", [one("orange", color="orange")]), "a photo of an [orange] [orange]"),
        (
            row("color_attr", [one("apple", color="orange"), one("orange", color="red")]),
            "a photo of an [orange] [apple] and a [red] [orange]",
        ),
        (
            row("position", [one("bear"), one("teddy bear", position=["left of", 0])]),
            "a photo of a [teddy bear] [left of] a [bear]",
        ),
    ],
)
def test_geneval_words_stand_where_the_grammar_puts_them(metadata: dict, expected: str) -> None:
    assert marked(geneval(metadata)) == expected


def test_of_every_official_prompt_all_but_the_frame_is_core() -> None:
    for metadata in official():
        prompt = geneval(metadata)
        rest, end = "", 0
        for word in core_words(prompt):
            assert prompt.text[word.start : word.end] == word.text and word.start >= end
            rest, end = rest + prompt.text[end : word.start], word.end
        assert end == len(prompt.text)
        assert set(rest.split()) <= {"a", "an", "photo", "of", "and"}


@given(st.permutations(COCO_CLASSES), st.permutations(COLORS))
def test_a_colour_is_the_one_of_the_object_behind_it(classes: list[str], colors: list[str]) -> None:
    include = [one(name, color=color) for name, color in zip(classes[:2], colors[:2], strict=True)]
    prompt = geneval(row("color_attr", include))
    words = core_words(prompt)
    assert [word.text for word in words] == [colors[0], classes[0], colors[1], classes[1]]
    assert [words[i + 1].start - words[i].end for i in (0, 2)] == [1, 1]


def test_captions_may_say_more_than_the_metadata() -> None:
    metadata = {**row("two_object", [one("dog"), one("hot dog")]), "prompt": "a photo of a red dog and a blue hot dog"}
    assert marked(geneval(metadata)) == "a photo of a red [dog] and a blue [hot dog]"


def test_a_prompt_that_does_not_say_what_its_metadata_ask_is_refused() -> None:
    metadata = {**row("counting", [{"class": "knife", "count": 2}]), "prompt": "a photo of two knives"}
    with pytest.raises(UsageError, match=f"does not say 'two {plural('knife')}'"):
        core_words(geneval(metadata))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (quoted('a sign that says "STAR"', "STAR"), 'a sign that says "[STAR]"'),
        (
            quoted('Open: a sign, "Open  24 Hours!", lit', "Open  24 Hours!"),
            'Open: a sign, "[Open]  [24] [Hours!]", lit',
        ),
    ],
)
def test_ocr_words_are_those_in_the_quotes(prompt: Prompt, expected: str) -> None:
    assert marked(prompt) == expected


def test_prompts_of_the_ocr_suite_give_their_targets() -> None:
    for prompt in Ocr(suites.load("ocr-miniature")).prompts():
        assert " ".join(word.text for word in core_words(prompt)) == prompt.metadata["target"]


def test_a_target_that_is_not_quoted_is_refused() -> None:
    with pytest.raises(UsageError, match="does not hold its target"):
        core_words(quoted("a sign that says STAR", "STAR"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A photo of a small brown dog's red hat, 8k, highly detailed", "small brown dog red hat"),
        ("two red-haired women aren't sitting in the café", "two red-haired women café"),
        ("close-up photograph of R2D2", "R2D2"),
        ("best quality, masterpiece", "best quality masterpiece"),  # nothing else is left
        ("who are you?", "who are you"),
        ("1984", "1984"),
        ("звезда 星", "звезда 星"),
    ],
)
def test_free_words_are_what_names_and_describes_things(text: str, expected: str) -> None:
    words = free_words(text)
    assert " ".join(word.text for word in words) == expected
    assert all(text[word.start : word.end] == word.text for word in words)


@given(st.text(max_size=60))
@example("_0")
@example("_'0")
@example("dog's _x-1_")
def test_every_text_with_a_letter_or_digit_has_core_words(text: str) -> None:
    words = free_words(text)
    assert bool(words) == any(c.isalnum() for c in text)
    assert all(a.end <= b.start for a, b in pairwise(words))


def test_a_prompt_without_words_has_no_core() -> None:
    assert core_words(Prompt("00007", "?!")) == []
