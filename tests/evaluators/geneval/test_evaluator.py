"""The whole judge on pictures, with the miniature's own detector and CLIP."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star_bench.catalogue import suites
from star_bench.errors import Refused, UsageError
from star_bench.evaluators.base import Image, Judged, Prompt, Score, Status, check_canaries
from star_bench.evaluators.geneval.detection.postprocess import Detections
from star_bench.evaluators.geneval.evaluator import GenEval
from star_bench.evaluators.geneval.filtering import keep
from star_bench.evaluators.geneval.official_results import read_results
from star_bench.evaluators.geneval.prompts import counting_row, row
from star_bench.evaluators.geneval.rescore import rescore
from star_bench.miniature.scenes import KINDS, WORLDS, random_scene


@pytest.fixture(scope="module")
def judge() -> GenEval:
    return GenEval(suites.load("geneval-miniature"))


def own_suite(folder: Path, *rows: dict[str, Any], **prompts: Any) -> GenEval:
    """A suite whose test set is a file, with the miniature's judges."""
    (folder / "meta.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    shipped = suites.load("geneval-miniature")
    source = suites.PromptSource(**{"path": "meta.jsonl", **prompts})
    return GenEval(shipped.model_copy(update={"folder": folder, "prompts": source}))


FIVE_CUPS = {**counting_row("cup", 4), "prompt": "a photo of five cups", "index": 3}
FIVE_CUPS |= {"include": [{"class": "cup", "count": 5}], "exclude": [{"class": "cup", "count": 6}]}


def test_a_file_of_metadata_is_a_test_set(tmp_path: Path) -> None:
    """With the classes that the detector names, in its order, and judged by the official rule."""
    one_car = row("single_object", [{"class": "car", "count": 1}])
    judge = own_suite(tmp_path, FIVE_CUPS, one_car)
    prompts = judge.prompts()
    assert prompts == [
        Prompt("00000", "a photo of five cups", "counting", FIVE_CUPS),
        Prompt("00001", "a photo of a car", "single_object", one_car),
    ]
    assert judge.vocabulary.classes == GenEval(suites.load("geneval-miniature")).vocabulary.classes
    rng = np.random.default_rng(1)
    scene = next(
        s for s in iter(lambda: random_scene(WORLDS["small"], rng, "single_object"), None) if "car" in s.caption
    )
    wrong, right = judge.score([scene.image] * 2, prompts)
    assert (wrong.value, right.value) == (0, 1)
    assert wrong.detail["reason"] == "expected cup>=5, found 0"


@pytest.mark.parametrize(
    ("changed", "prompts", "sentence"),
    [
        ({"include": [{"class": "zebra", "count": 1}]}, {}, "line 1, has the class 'zebra'"),
        ({"tag": "couting"}, {}, "line 1, has the tag 'couting'"),
        ({"include": [{"class": "cup"}]}, {}, "line 1: include.0.count"),
        ({}, {"options": {"classes": ["car"]}}, "line 1, has the class 'cup'"),
        ({}, {"options": {"seed": 3}}, "seed"),
        ({}, {"path": None}, "no prompt generator None"),
        ({}, {"generator": "gpt"}, "no prompt generator 'gpt'"),
    ],
)
def test_a_test_set_that_cannot_be_judged_is_refused(
    tmp_path: Path, changed: dict[str, Any], prompts: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        own_suite(tmp_path, {**FIVE_CUPS, **changed}, **prompts).prompts()


@pytest.fixture(scope="module")
def drawn() -> tuple[list[Image], list[Prompt]]:
    """Thirty scenes of all tags that show what their prompt says, each also beside the next one's prompt."""
    rng = np.random.default_rng(5)
    scenes = [random_scene(WORLDS["small"], rng, kind) for kind in KINDS[:-1] for _ in range(5)]
    prompts = [Prompt(str(i), s.caption, s.metadata["tag"], s.metadata) for i, s in enumerate(scenes)]
    images = [scene.image for scene in scenes]
    return images * 2, prompts + prompts[1:] + prompts[:1]


def test_true_scenes_are_right_and_others_mostly_not(judge: GenEval, drawn: tuple[list[Image], list[Prompt]]) -> None:
    values = [score.value for score in judge.score(*drawn)]
    half = len(values) // 2
    assert np.mean(values[:half]) > 0.95
    assert np.mean(values[half:]) < 0.5


def test_a_score_does_not_depend_on_its_batch(judge: GenEval, drawn: tuple[list[Image], list[Prompt]]) -> None:
    images, prompts = drawn
    together = judge.score(images, prompts)
    alone = [judge.score([image], [prompt])[0] for image, prompt in zip(images, prompts, strict=True)]
    for a, b in zip(together, alone, strict=True):
        assert (a.value, a.detail["reason"], a.detail["partial"]) == (b.value, b.detail["reason"], b.detail["partial"])


class SwappedChannels(GenEval):
    """What a judge does that is given blue where it expects red."""

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        return super().score([np.ascontiguousarray(image[..., ::-1]) for image in images], prompts)


def test_swapped_channels_are_caught_by_the_canaries() -> None:
    card = suites.load("geneval-miniature")
    assert check_canaries(GenEval(card)) == 6
    with pytest.raises(Refused, match=r"canary 'canary-red-car\.png'.*nothing was scored"):
        check_canaries(SwappedChannels(card))


def test_the_official_suite_has_canaries_that_can_be_read() -> None:
    canaries = GenEval(suites.load("geneval")).canaries()
    assert {(canary.low, canary.high) for canary in canaries} == {(0, 0), (1, 1)}
    assert all(canary.image.std() > 20 for canary in canaries)


def test_exports_are_what_the_official_evaluator_writes(
    judge: GenEval, drawn: tuple[list[Image], list[Prompt]], tmp_path: Path
) -> None:
    images, prompts = drawn
    scores = [*judge.score(images, prompts)[:-1], Score(None, Status.CORRUPT, {"error": "no picture"})]
    files = judge.exports(Judged(p, f"images/{i}.png", s) for i, (p, s) in enumerate(zip(prompts, scores, strict=True)))
    assert list(files) == ["results.jsonl"]
    (tmp_path / "results.jsonl").write_text(files["results.jsonl"])
    rows = read_results(tmp_path / "results.jsonl")
    assert len(rows) == len(images) - 1
    assert [float(row.correct) for row in rows] == [score.value for score in scores[:-1]]
    again = rescore(rows)
    assert not again.changed and not again.contradictions
    assert [(row.correct, row.reason) for row in again.rows] == [(row.correct, row.reason) for row in rows]


def detections(scores: Sequence[float], label: int = 0) -> Detections:
    count = len(scores)
    boxes = np.tile(np.array([0, 0, 4, 4], np.float32), (count, 1))
    return Detections(np.full(count, label), np.array(scores, np.float32), boxes, np.ones((count, 4, 4), bool))


def test_a_score_equal_to_the_threshold_is_dropped() -> None:
    above = float(np.nextafter(np.float32(0.3), np.float32(1)))
    assert [o.score for o in keep(detections([above, 0.3]), ["dog"], 0.3)["dog"]] == [above]
    assert keep(detections([0.3]), ["dog"], 0.3) == {}


def test_of_seventeen_objects_the_best_sixteen_count() -> None:
    kept = keep(detections(np.linspace(0.99, 0.91, 17)), ["dog"], 0.9)["dog"]
    assert len(kept) == 16 and kept[-1].score > 0.91


def test_another_detector_than_the_suites_is_refused() -> None:
    card = suites.load("geneval-miniature")
    options = {**card.prompts.options, "classes": ["car", "kite", "cup"]}
    other = card.model_copy(update={"prompts": card.prompts.model_copy(update={"options": options})})
    judge = GenEval(other)
    with pytest.raises(Refused, match="knows 8 classes"):
        judge.score([np.zeros((64, 64, 3), np.uint8)], judge.prompts()[:1])
