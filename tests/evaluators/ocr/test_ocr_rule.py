"""Flow-GRPO's OCR rule against a plain Levenshtein distance written for this test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_bench.evaluators.ocr.rule import accuracy, distance, normalise, target_of

texts = st.text(alphabet="abAB 1é", max_size=9)
targets = texts.filter(lambda t: normalise(t) != "")


def levenshtein(a: str, b: str) -> int:
    """The textbook's recursion, row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = (
                row[j],
                min(row[j] + 1, row[j - 1] + 1, previous + (x != y)),
            )
    return row[-1]


@given(targets, st.lists(texts, max_size=4))
def test_rule_is_the_papers(target, read):
    wanted, got = (
        target.replace(" ", "").lower(),
        "".join(read).replace(" ", "").lower(),
    )
    expected = 0 if wanted in got else min(levenshtein(wanted, got), len(wanted))
    assert distance(target, read) == expected
    assert accuracy(target, read) == pytest.approx(1 - expected / len(wanted))
    assert 0.0 <= accuracy(target, read) <= 1.0


@given(targets, texts, texts)
def test_a_target_inside_other_text_is_perfect(target, before, after):
    assert accuracy(target, [before, target.swapcase() if target.isascii() else target, after]) == 1.0


@given(targets, st.lists(texts, max_size=3))
def test_how_the_strings_are_cut_does_not_matter(target, read):
    assert distance(target, read) == distance(target, ["".join(read)])


def test_known_values():
    assert accuracy("Spring Collection", ["SPRING", "COLLECTION"]) == 1.0
    assert accuracy("OPEN", ["OPFN"]) == 0.75
    assert accuracy("OPEN", []) == 0.0
    assert accuracy("OPEN", ["a very long line of other letters"]) == 0.0  # the distance is capped


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("no quotes", "0 straight double quotes"),
        ("“curly”", "0 straight double quotes"),
        ('one "quote', "1 straight double quotes"),
        ('"two" and "three"', "4 straight double quotes"),
        ('an empty ""', "empty quotation"),
        ('blanks "  "', "empty quotation"),
    ],
)
def test_a_prompt_needs_exactly_one_target(prompt, says):
    with pytest.raises(ValueError, match=says):
        target_of(prompt)


def test_target_is_kept_as_written():
    assert target_of('a sign "Open Late" at night') == "Open Late"
