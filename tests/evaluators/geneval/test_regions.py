"""Where the miniature's judge sees what a prompt names, on scenes whose masks are known."""

from __future__ import annotations

import numpy as np
import pytest

from star_bench.catalogue import suites
from star_bench.errors import UsageError
from star_bench.evaluators.base import Evaluator, Prompt
from star_bench.evaluators.geneval.evaluator import GenEval
from star_bench.evaluators.geneval.prompts import row
from star_bench.evaluators.ocr.evaluator import Ocr
from star_bench.miniature.scenes import WORLDS, Scene, random_scene


@pytest.fixture(scope="module")
def judge() -> GenEval:
    return GenEval(suites.load("geneval-miniature"))


def scenes(kind: str, count: int) -> list[Scene]:
    rng = np.random.default_rng(8)
    return [random_scene(WORLDS["small"], rng, kind) for _ in range(count)]


def asks(metadata: dict) -> Prompt:
    return Prompt("0", metadata["prompt"], metadata["tag"], metadata)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union."""
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("kind", ["single_object", "two_object", "counting", "position", "color_attr"])
def test_regions_are_the_objects_that_the_prompt_names(judge: GenEval, kind: str) -> None:
    drawn = scenes(kind, 5)
    regions = judge.regions([scene.image for scene in drawn], [asks(scene.metadata) for scene in drawn])
    for region, scene in zip(regions, drawn, strict=True):
        assert region.dtype == bool and region.shape == scene.image.shape[:2]
        assert overlap(region, np.any([thing.mask for thing in scene.objects], 0)) > 0.75


def test_objects_that_the_prompt_does_not_name_are_left_out(judge: GenEval) -> None:
    for scene in scenes("two_object", 5):
        wanted = scene.objects[1]
        (region,) = judge.regions([scene.image], [asks(row("single_object", [{"class": wanted.name, "count": 1}]))])
        assert overlap(region, wanted.mask) > 0.75


def test_a_picture_that_shows_none_of_it_has_an_empty_region(judge: GenEval) -> None:
    scene = scenes("single_object", 1)[0]
    other = next(name for name in WORLDS["small"].classes if name != scene.objects[0].name)
    blank = np.full((48, 64, 3), 200, np.uint8)
    prompt = asks(row("single_object", [{"class": other, "count": 1}]))
    for image, region in zip([scene.image, blank], judge.regions([scene.image, blank], [prompt] * 2), strict=True):
        assert region.shape == image.shape[:2] and not region.any()


@pytest.mark.parametrize("judge_of", [Ocr, Evaluator])
def test_a_judge_that_looks_for_no_places_says_so(judge_of: type[Evaluator]) -> None:
    card = suites.load("ocr-miniature")
    with pytest.raises(UsageError, match="'ocr-miniature' gives a score and no regions"):
        judge_of.regions(Ocr(card), [np.zeros((64, 64, 3), np.uint8)], [Prompt("0", 'a sign "STAR"')])
