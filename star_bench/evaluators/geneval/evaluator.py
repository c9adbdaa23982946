"""GenEval (arXiv:2310.11513): does the picture show the objects, counts, colours and positions that the prompt names?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from star_bench import plugins
from star_bench.cards import Strict, parse
from star_bench.errors import UsageError
from star_bench.evaluators.base import Aggregate, Evaluator, Image, Metric, Prompt, Score, Status
from star_bench.evaluators.geneval.prompts import COCO_CLASSES, COLORS, OFFICIAL, Vocabulary, generate, official
from star_bench.evaluators.geneval.verdict import DetectedObject, Found, judge
from star_bench.weights import WeightsReference, folder_digest

if TYPE_CHECKING:
    from star_bench.evaluators.geneval.color import OpenClipColorJudge
    from star_bench.evaluators.geneval.detector import Detections, Detector

VERSION = "1"
"""Raise it with any change that can change a verdict."""


class PromptOptions(Strict):
    """Of the grammar, for a vocabulary that is not the official one."""

    classes: list[str] = Field(default_factory=lambda: list(COCO_CLASSES))
    colors: list[str] = Field(default_factory=lambda: list(COLORS))
    seed: int
    rows: int


class DetectorCard(Strict):
    """Defaults: the official evaluator's."""

    plugin: str = "transformers"
    weights: WeightsReference
    resize: dict[str, int] | None
    threshold: float = 0.3
    counting_threshold: float = 0.9
    max_objects: int = 16


class ColorCard(Strict):
    """A CLIP in open_clip's local folder layout."""

    weights: WeightsReference


class Judges(Strict):
    detector: DetectorCard
    color: ColorCard
    name: str = "GenEval"
    """The metric's name: a suite with judges of its own is another metric."""


def partial_credit(score: Score) -> float:
    """Of a score that is ok."""
    return float(score.detail["partial"])


class GenEval(Evaluator):
    """value is 1 where the verdict is correct and 0 where it is not; detail holds what was seen and the reason."""

    aggregates = (
        Aggregate("overall", "overall (mean of tag means over images)", of_tags=True),
        Aggregate("image_mean", "image mean"),
        Aggregate("all_images", "prompts with all images right", all_images=True),
        Aggregate("partial_credit", "partial-credit mean", value=partial_credit),
    )

    def __init__(self, card: Any, *, device: str = "cpu") -> None:
        super().__init__(card, device=device)
        self.settings = parse(Judges, card.judges, f"suite {card.name}: judges")
        self.metric = Metric(
            name=self.settings.name,
            implementation=f"star-bench {self.settings.detector.plugin} Mask2Former + open_clip",
            version=VERSION,
            unit="share of images judged right",
            range=(0.0, 1.0),
            licence=card.licence,
            paper="arXiv:2310.11513",
        )

    @cached_property
    def vocabulary(self) -> Vocabulary:
        options = self._options
        return Vocabulary(tuple(options.classes), tuple(options.colors)) if options else OFFICIAL

    @cached_property
    def _options(self) -> PromptOptions | None:
        match self.card.prompts.generator:
            case "geneval-official":
                return None
            case "geneval":
                return parse(PromptOptions, self.card.prompts.options, f"suite {self.card.name}: prompts.options")
        raise UsageError(
            f"suite {self.card.name}: GenEval has no prompt generator {self.card.prompts.generator!r}",
            "use geneval-official or geneval",
        )

    def prompts(self) -> list[Prompt]:
        options = self._options
        rows = generate(self.vocabulary, seed=options.seed, rows=options.rows) if options else official()
        return [Prompt(f"{i:05d}", row["prompt"], row["tag"], row) for i, row in enumerate(rows)]

    def judges(self) -> dict[str, str]:
        settings = self.settings
        return {
            "detector": folder_digest(settings.detector.weights.locate()),
            "color": folder_digest(settings.color.weights.locate()),
        }

    @cached_property
    def _detector(self) -> Detector:
        settings = self.settings.detector
        make = plugins.load(plugins.DETECTORS, settings.plugin)
        detector: Detector = make(settings.weights.locate(), device=self.device, resize=settings.resize)
        return detector

    @cached_property
    def _color_judge(self) -> OpenClipColorJudge:
        from star_bench.evaluators.geneval.color import OpenClipColorJudge

        return OpenClipColorJudge(self.settings.color.weights.locate(), self.vocabulary.colors, device=self.device)

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        settings = self.settings.detector
        lowest = min(settings.threshold, settings.counting_threshold)
        detections = self._detector.detect(images, threshold=lowest)
        return [self._score(*each) for each in zip(images, prompts, detections, strict=True)]

    def _score(self, image: Image, prompt: Prompt, detections: Detections) -> Score:
        settings = self.settings.detector
        counting = prompt.metadata["tag"] == "counting"
        threshold = settings.counting_threshold if counting else settings.threshold
        found: Found = {}
        for i in np.nonzero(detections.scores > threshold)[0]:
            name = self.vocabulary.classes[detections.labels[i]]
            kept = found.setdefault(name, [])
            if len(kept) < settings.max_objects:
                kept.append(DetectedObject(name, float(detections.scores[i]), detections.boxes[i], int(i)))
        colors: dict[int, str] = {}

        def color_of(objects: Sequence[DetectedObject]) -> list[str]:
            from star_bench.evaluators.geneval.color import crop

            fresh = [o for o in objects if o.index not in colors]
            if fresh:
                crops = [crop(image, o.box, detections.masks[o.index]) for o in fresh]
                votes = self._color_judge.votes(fresh[0].name, crops).argmax(1)
                colors.update((o.index, self.vocabulary.colors[v]) for o, v in zip(fresh, votes, strict=True))
            return [colors[o.index] for o in objects]

        verdict = judge(prompt.metadata, found, color_of)
        seen = [
            {
                "class": o.name,
                "score": round(o.score, 4),
                "box": [float(v) for v in o.box],
                **({"color": colors[o.index]} if o.index in colors else {}),
            }
            for objects in found.values()
            for o in objects
        ]
        detail = {"reason": verdict.reason, "partial": verdict.partial, "detections": seen}
        return Score(float(verdict.correct), Status.OK, detail)

    def reward(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[float | None]:
        """Partial credit."""
        return [None if s.value is None else partial_credit(s) for s in self.score(images, prompts)]
