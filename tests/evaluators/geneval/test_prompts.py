"""The official prompts, byte for byte, and the miniature's from the same grammar."""

import hashlib

from star_bench.evaluators.geneval import prompts as p


def test_official_files() -> None:
    rows = p.official()
    assert len(rows) == 553
    assert hashlib.sha256(p.metadata_file(rows).encode()).hexdigest() == p.METADATA_SHA256
    assert len(p.prompts_file(rows).encode()) == 18_345


def test_examples_of_the_grammar() -> None:
    relation = {"class": "dog", "count": 1, "position": ["right of", 0]}
    assert p.prompt_text("position", [{"class": "teddy bear", "count": 1}, relation]) == (
        "a photo of a dog right of a teddy bear"
    )
    assert p.counting_row("bench", 3)["prompt"] == "a photo of three benchs"
    assert p.prompt_text("colors", [{"class": "car", "count": 1, "color": "orange"}]) == "a photo of an orange car"


def test_a_small_vocabulary_has_all_tags_and_no_duplicates() -> None:
    rows = p.generate(p.Vocabulary(("car", "kite", "cup"), ("red", "blue")), seed=1, rows=8)
    assert {r["tag"] for r in rows} == set(p.TAGS)
    assert len({str(r) for r in rows}) == len(rows)
    assert rows == p.generate(p.Vocabulary(("car", "kite", "cup"), ("red", "blue")), seed=1, rows=8)
