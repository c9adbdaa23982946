"""The weights in the package: the judges are right, and a picture does not depend on its batch."""

import numpy as np
import pytest

from star_bench.assets import model_files
from star_bench.catalogue.checkpoints import resolve
from star_bench.catalogue.protocol import GenerationSettings
from star_bench.catalogue.shipped import MINIATURE_FOLDER
from star_bench.catalogue.suites import load as suite
from star_bench.errors import UsageError
from star_bench.evaluators.base import check_canaries
from star_bench.evaluators.geneval.color import OpenClipColorJudge
from star_bench.evaluators.geneval.detection.detector import TransformersDetector
from star_bench.generation.pipeline import load
from star_bench.generation.sampler import Sampler
from star_bench.miniature import accuracy
from star_bench.miniature.generator import SAMPLING
from star_bench.miniature.scenes import SMALL
from star_bench.runs.plan import merge_protocol
from star_bench.runs.workers import make_evaluator

COUNT = 40  # per kind; the card's numbers come from 200


@pytest.fixture(scope="module")
def colors() -> OpenClipColorJudge:
    return OpenClipColorJudge(MINIATURE_FOLDER / "clip", SMALL.colors)


def test_verdicts_agree_with_the_truth_per_kind(colors: OpenClipColorJudge) -> None:
    detector = TransformersDetector(MINIATURE_FOLDER / "detector")
    agreement = accuracy.detector_agreement(SMALL, detector, colors, count=COUNT, seed=5, thresholds=(0.3, 0.9))
    for kind, by_threshold in agreement.items():
        official = by_threshold[0.9 if kind == "counting" else 0.3]
        assert official >= 0.97, (kind, official)


def test_colours_and_captions_are_told_apart(colors: OpenClipColorJudge) -> None:
    assert min(accuracy.color_accuracy(SMALL, colors, count=200, seed=5).values()) >= 0.97
    captions = accuracy.caption_accuracy(SMALL, colors, count=COUNT, seed=5)
    assert np.mean(list(captions.values())) > 0.8, captions


@pytest.mark.parametrize("name", ["geneval-miniature", "ocr-miniature", "preference-miniature"])
def test_canaries_are_judged_as_expected(name: str) -> None:
    evaluator = make_evaluator(suite(name), "cpu")
    assert check_canaries(evaluator) >= 2
    assert len(evaluator.prompts()) >= 55


def test_a_picture_does_not_depend_on_its_batch() -> None:
    checkpoint = resolve("miniature")
    layers = (GenerationSettings(steps=6), checkpoint.generation)
    protocol = merge_protocol(*layers, seed=0, dtype="float32", device="cpu", where="miniature")
    sampler = Sampler(load(model_files.locate(checkpoint), dtype="float32", device="cpu"), protocol)
    prompts = ["a photo of a red car", "a photo of two cups", 'a sign that says "MOON"', "a photo of a kite"]
    items = [(f"{i:05d}", text, 0) for i, text in enumerate(prompts)]
    together = sampler.pixels(items, batch_size=4)
    alone = sampler.pixels(items[::-1], batch_size=1)[::-1]
    for one, other in zip(together, alone, strict=True):
        assert one is not None and other is not None
        assert np.abs(one - other).max() < 1e-4


def test_a_size_that_the_model_cannot_place_is_a_sentence() -> None:
    checkpoint = resolve("miniature")
    layers = (GenerationSettings(height=512, width=512), checkpoint.generation)
    protocol = merge_protocol(*layers, seed=0, dtype="float32", device="cpu", where="miniature")
    with pytest.raises(UsageError, match="more than this model can place \\(96 at most\\)"):
        Sampler(load(model_files.locate(checkpoint), dtype="float32", device="cpu"), protocol)


def test_the_named_miniature_and_its_folder_are_sampled_alike() -> None:
    by_path = resolve(str(MINIATURE_FOLDER / "pipeline")).generation
    assert by_path == resolve("miniature").generation == GenerationSettings.model_validate(SAMPLING)
