"""Pictures that are judged together: as each would be alone, with so many calls and copies for a batch of any size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image as Picture

from star_bench.catalogue import suites
from star_bench.evaluators.base import Image, Prompt, Score
from star_bench.evaluators.geneval.color import crop
from star_bench.evaluators.geneval.detection.detector import TransformersDetector
from star_bench.evaluators.geneval.evaluator import GenEval
from star_bench.evaluators.geneval.verdict import needs_color
from star_bench.miniature.scenes import KINDS, WORLDS, random_scene

Asked = tuple[list[Image], list[Prompt]]


@pytest.fixture(scope="module")
def judge() -> GenEval:
    return GenEval(suites.load("geneval-miniature"))


@pytest.fixture(scope="module")
def drawn() -> Asked:
    """Scenes of all tags, half of them beside the prompt of another."""
    rng = np.random.default_rng(11)
    scenes = [random_scene(WORLDS["small"], rng, kind) for kind in [*KINDS[:-1]] * 4]
    prompts = [Prompt(str(i), scene.caption, scene.metadata["tag"], scene.metadata) for i, scene in enumerate(scenes)]
    half = len(scenes) // 2
    return [scene.image for scene in scenes], prompts[:half] + prompts[half + 1 :] + [prompts[half]]


@pytest.fixture(scope="module")
def canaries(judge: GenEval) -> Asked:
    found = judge.canaries()
    return [canary.image for canary in found], [canary.prompt for canary in found]


def in_batches(judge: GenEval, asked: Asked, size: int) -> list[Score]:
    images, prompts = asked
    parts = [slice(start, start + size) for start in range(0, len(images), size)]
    return [score for part in parts for score in judge.score(images[part], prompts[part])]


def assert_alike(a: Score, b: Score) -> None:
    """In all but what a batch's rounding may change of a number."""
    assert a.value == b.value
    assert {**a.detail, "detections": None} == {**b.detail, "detections": None}
    for one, other in zip(a.detail["detections"], b.detail["detections"], strict=True):
        assert (one["class"], one.get("color"), one["mask"]["size"]) == (
            other["class"],
            other.get("color"),
            other["mask"]["size"],
        )
        assert one["box"] == other["box"] and one["score"] == pytest.approx(other["score"], abs=1e-4)
        assert one.get("votes", {}) == pytest.approx(other.get("votes", {}), abs=2e-3)


@pytest.mark.parametrize("size", [3, 8])
def test_verdicts_and_details_are_the_same_in_every_batch(judge: GenEval, drawn: Asked, size: int) -> None:
    alone = in_batches(judge, drawn, 1)
    assert {score.value for score in alone} == {0, 1}
    assert any("votes" in seen for score in alone for seen in score.detail["detections"])
    for one, other in zip(alone, in_batches(judge, drawn, size), strict=True):
        assert_alike(one, other)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_batch_is_one_forward_of_each_network_and_three_copies(
    judge: GenEval, drawn: Asked, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it takes of a device's time to wait for: the best queries, what was found, and the votes."""
    images, prompts = drawn
    colored = [i for i, prompt in enumerate(prompts) if "color" in prompt.tag][:size]
    images, prompts = [images[i] for i in colored], [prompts[i] for i in colored]
    assert len(images) == size
    judge.score(images, prompts)  # texts are embedded once, and stay
    counts: Counter[str] = Counter()

    def counted(owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return inner(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    assert isinstance(judge._detector, TransformersDetector)
    counted(judge._detector.model, "forward")
    for name in ("encode_image", "encode_text"):
        counted(judge._color_judge.model, name)
    for name in ("cpu", "item", "tolist"):
        counted(torch.Tensor, name)
    scores = judge.score(images, prompts)
    assert any("votes" in seen for score in scores for seen in score.detail["detections"])
    assert counts == {"forward": 1, "encode_image": 1, "cpu": 3}


def test_what_is_left_to_do_needs_no_network(judge: GenEval, drawn: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, begun = judge.score(*drawn), judge.begin(*drawn)

    def call(*_: Any, **__: Any) -> Any:
        raise AssertionError("a verdict is made without networks")

    assert isinstance(judge._detector, TransformersDetector)
    monkeypatch.setattr(judge._detector.model, "forward", call)
    monkeypatch.setattr(judge._color_judge.model, "encode_image", call)
    assert [one() if callable(one) else one for one in begun] == scores


class Doubtful(GenEval):
    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        return [Score(0.0) for _ in super().score(images, prompts)]


def test_a_judge_that_scores_in_its_own_way_begins_in_no_other(drawn: Asked) -> None:
    begun = Doubtful(suites.load("geneval-miniature")).begin(*drawn)
    assert begun == [Score(0.0)] * len(drawn[0])


def crops_of(judge: GenEval, asked: Asked) -> tuple[list[str], list[Picture.Image]]:
    """What is asked of the colour judge."""
    images, prompts = asked
    detections, found = judge._find(images, prompts)
    seen = [
        (thing.name, crop(image, thing.box, each.masks[thing.index]))
        for image, prompt, each, kept in zip(images, prompts, detections, found, strict=True)
        for thing in needs_color(prompt.metadata, kept)
    ]
    return [name for name, _ in seen], [picture for _, picture in seen]


@pytest.mark.parametrize("pictures", ["canaries", "drawn"])
def test_colours_are_voted_on_as_crop_by_crop(
    judge: GenEval, pictures: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the official evaluator prepares a crop: open_clip's own transform, then the model."""
    names, crops = crops_of(judge, request.getfixturevalue(pictures))
    assert crops
    colors = judge._color_judge
    together = colors.votes(names, crops)
    with torch.inference_mode():
        ready = torch.stack([colors.transform(each) for each in crops])
        embedded = F.normalize(colors.model.encode_image(ready), dim=-1)
        prototypes = torch.stack([colors._prototype(name) for name in names])
        assert np.array_equal(together, torch.einsum("nd,ncd->nc", embedded, prototypes).numpy())
    alone = np.concatenate([colors.votes([name], [each]) for name, each in zip(names, crops, strict=True)])
    assert np.allclose(together, alone, atol=1e-5) and (together.argmax(1) == alone.argmax(1)).all()


def test_crops_of_any_shape_are_prepared_to_the_last_bit(judge: GenEval) -> None:
    rng, colors = np.random.default_rng(2), judge._color_judge
    shapes = [(1, 1), (1, 300), (300, 2), (64, 64), (200, 90), (31, 47), (128, 64)]
    crops = [Picture.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)) for shape in shapes]
    assert torch.equal(colors._pixels(crops), torch.stack([colors.transform(each) for each in crops]))
