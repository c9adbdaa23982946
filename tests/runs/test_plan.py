"""The digest changes with everything that can change a number, and subsets are fair."""

import dataclasses
from pathlib import Path

import pytest

from star_bench.catalogue.protocol import GenerationSettings, Protocol
from star_bench.catalogue.suites import load
from star_bench.errors import UsageError
from star_bench.evaluators.base import Metric, Prompt
from star_bench.runs.plan import Plan, Subject, merge_protocol, select

PROTOCOL = Protocol(
    steps=4,
    guidance_scale=4.0,
    negative_prompt="",
    height=64,
    width=64,
    max_sequence_length=16,
    seed=0,
    dtype="float32",
    device="cpu",
)
METRIC = Metric("m", "i", "1", "u", (0, 1), "Apache-2.0", "")
PROMPTS = tuple(Prompt(f"{i:05d}", f"prompt {i}", "ab"[i % 2]) for i in range(10))


def plan(**changes: object) -> Plan:
    base = Plan(Subject("m", "d", "l"), load("geneval-miniature"), METRIC, {"judge": "x"}, PROMPTS, 10, 2, PROTOCOL)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Protocol)])
def test_every_protocol_field_is_in_the_digest(field: str) -> None:
    old = getattr(PROTOCOL, field)
    new = old + 1 if isinstance(old, int | float) else old + "x"
    other = plan(protocol=dataclasses.replace(PROTOCOL, **{field: new}))
    assert other.pictures.digest() != plan().pictures.digest()
    assert other.digest() != plan().digest()


@pytest.mark.parametrize(
    "change",
    [
        {"subject": Subject("m", "other", "l")},
        {"metric": dataclasses.replace(METRIC, version="2")},
        {"judges": {"judge": "y"}},
        {"prompts": PROMPTS[:9]},
        {"samples": 3},
        {"card": load("ocr-miniature")},
    ],
    ids=lambda c: next(iter(c)),
)
def test_model_metric_judges_and_prompts_are_in_the_digest(change: dict[str, object]) -> None:
    assert plan(**change).digest() != plan().digest()


@pytest.mark.parametrize(
    "change",
    [
        {"metric": dataclasses.replace(METRIC, version="2")},
        {"judges": {"judge": "y"}},
        {"samples": 3},
        {"card": load("ocr-miniature")},
        {"prompts": tuple(dataclasses.replace(prompt, tag="c", metadata={"n": 1}) for prompt in PROMPTS)},
    ],
    ids=lambda c: next(iter(c)),
)
def test_no_judge_is_in_the_digest_of_pictures(change: dict[str, object]) -> None:
    """Nor how many images of a prompt are judged, so that a set can grow."""
    assert plan(**change).pictures.digest() == plan().pictures.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"licence": "another"},
        {"title": "Another"},
        {"summary": "another"},
        {"canaries": []},
        {"published": []},
        {"papers": ["arXiv:1"]},
        {"judge_weights": []},
    ],
    ids=lambda c: next(iter(c)),
)
def test_words_and_canaries_of_a_card_are_in_no_digest(change: dict[str, object]) -> None:
    reworded = load("geneval-miniature").model_copy(update=change)
    assert plan(card=reworded).digest() == plan().digest()


def test_where_weights_lie_and_how_they_are_fetched_is_in_no_digest() -> None:
    card = load("geneval")
    detector = {"plugin": "transformers", "weights": {"path": "/elsewhere", "fetch": "carrier pigeon"}}
    moved = card.model_copy(update={"judges": {**card.judges, "detector": detector}})
    assert plan(card=moved).digest() == plan(card=card).digest()
    other = card.model_copy(update={"judges": {**card.judges, "detector": {**detector, "plugin": "mmdet"}}})
    assert plan(card=other).digest() != plan(card=card).digest()


def test_a_hub_name_is_one_folder(tmp_path: Path) -> None:
    folder = plan(subject=Subject("org/name@main", "d", "l")).folder(tmp_path)
    assert folder.relative_to(tmp_path).parts[:2] == ("org--name@main", "geneval-miniature")


def test_batches_have_fixed_members() -> None:
    whole = [[item.key for item in batch] for batch in plan().batches(4)]
    assert [len(batch) for batch in whole] == [4, 4, 2, 4, 4, 2]
    assert whole[1][0] == ("00004", 0) and whole[3][0] == ("00000", 1)
    assert sorted(key for batch in whole for key in batch) == sorted(item.key for item in plan().items)


def test_a_set_of_pictures_grows_by_whole_batches() -> None:
    """Image 2 of each prompt is drawn in batches of its own, whatever was drawn before."""
    few, more = plan(samples=2).batches(4), plan(samples=3).batches(4)
    assert more[: len(few)] == few


def test_a_subset_has_every_tag_and_keeps_the_order() -> None:
    prompts = [Prompt(str(i), "x", tag) for i, tag in enumerate("aaaabbc")]
    assert [p.id for p in select(prompts, 3)] == ["0", "4", "6"]
    assert [p.id for p in select(prompts, 5)] == ["0", "1", "4", "5", "6"]
    assert select(prompts, None) == tuple(prompts)


def test_no_prompts_and_double_ids_are_refused() -> None:
    with pytest.raises(UsageError, match="no prompts"):
        select([], None)
    with pytest.raises(UsageError, match="same id"):
        select([Prompt("1", "x"), Prompt("1", "y")], None)


def test_the_first_layer_decides_and_a_gap_is_named() -> None:
    full = GenerationSettings(steps=9, guidance_scale=1, negative_prompt="", height=8, width=8, max_sequence_length=8)
    merged = merge_protocol(GenerationSettings(steps=3), full, seed=0, dtype="float32", device="cpu", where="m")
    assert (merged.steps, merged.guidance_scale) == (3, 1)
    with pytest.raises(UsageError, match="guidance_scale"):
        merge_protocol(GenerationSettings(steps=3), seed=0, dtype="float32", device="cpu", where="m")
