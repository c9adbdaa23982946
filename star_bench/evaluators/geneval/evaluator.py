"""GenEval (arXiv:2310.11513): does the picture show the objects, counts, colours and positions that the prompt names?"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from star_bench.assets import prompt_files
from star_bench.assets.weights import WeightsReference
from star_bench.catalogue import plugins
from star_bench.catalogue.cards import Strict, parse
from star_bench.errors import Refused, UsageError
from star_bench.evaluators.base import (
    Aggregate,
    Begun,
    Cut,
    Evaluator,
    Image,
    Judged,
    Metric,
    Prompt,
    Score,
    Status,
    training_ids,
)
from star_bench.evaluators.geneval.filtering import COUNTING_THRESHOLD, MAX_OBJECTS, THRESHOLD, keep
from star_bench.evaluators.geneval.mask import encode
from star_bench.evaluators.geneval.metadata import PromptRow, judged_rows
from star_bench.evaluators.geneval.metadata import parse as parse_row
from star_bench.evaluators.geneval.official_results import ResultRow, to_line
from star_bench.evaluators.geneval.prompts import COCO_CLASSES, COLORS, OFFICIAL, Vocabulary, generate, official
from star_bench.evaluators.geneval.verdict import DetectedObject, Found, judge, judge_strictly, needs_color
from star_bench.files.digests import folder_digest
from star_bench.files.json import read_config

if TYPE_CHECKING:
    from star_bench.evaluators.geneval.color import OpenClipColorJudge
    from star_bench.evaluators.geneval.detection.detector import Detector
    from star_bench.evaluators.geneval.detection.postprocess import Detections

VERSION = "2"
"""Raise it with any change that can change a verdict."""
VOTE_DIGITS = 3
"""Decimals of a colour's share that are kept; a share that rounds to nothing is left out (chosen here)."""


Votes = dict[str, float]
"""Colour -> its share of the vote, in [0, 1]; the winner first."""


class Words(Strict):
    """What prompts may speak of. No classes: those that the detector names."""

    classes: list[str] = Field(default_factory=list)
    colors: list[str] = Field(default_factory=lambda: list(COLORS))


class PromptOptions(Words):
    """Of the grammar, for a vocabulary that is not the official one."""

    classes: list[str] = Field(default_factory=lambda: list(COCO_CLASSES))
    seed: int
    rows: int


class DetectorCard(Strict):
    """Defaults: the official evaluator's. How large a picture goes in is written in the weights' own folder."""

    plugin: str = "transformers"
    weights: WeightsReference
    preprocessing: str = "mmdet-2.x"
    threshold: float = THRESHOLD
    counting_threshold: float = COUNTING_THRESHOLD
    max_objects: int = MAX_OBJECTS


class ColorCard(Strict):
    """A CLIP in open_clip's local folder layout. quick_gelu: the activation that it must have been built with."""

    weights: WeightsReference
    quick_gelu: bool


class Judges(Strict):
    detector: DetectorCard
    color: ColorCard
    name: str = "GenEval"
    """The metric's name: a suite with judges of its own is another metric."""


def strict(score: Score) -> float:
    """Of a score that is ok."""
    return float(score.detail["strict"])


def partial_credit(score: Score) -> float:
    """Of a score that is ok."""
    return float(score.detail["partial"])


class GenEval(Evaluator):
    """value is 1 where the verdict is correct and 0 where it is not; detail holds what was seen and the reason."""

    aggregates = (
        Aggregate("overall", "overall (mean of tag means over images)", of_tags=True),
        Aggregate("image_mean", "image mean"),
        Aggregate("all_images", "prompts with all images right", of_prompt=min),
        Aggregate("strict", "strict image mean (exact counts)", value=strict),
        Aggregate("partial_credit", "partial-credit mean (training reward)", value=partial_credit),
    )

    def __init__(self, card: Any, *, device: str = "cpu") -> None:
        super().__init__(card, device=device)
        self.settings = parse(Judges, card.judges, f"suite {card.name}: judges")
        self.metric = Metric(
            name=self.settings.name,
            implementation=self._implementation(),
            version=VERSION,
            unit="share of images judged right",
            range=(0.0, 1.0),
            licence=card.licence,
            paper="arXiv:2310.11513",
        )

    def _implementation(self) -> str:
        detector = self.settings.detector
        finder = f"Mask2Former by {detector.plugin} with {detector.preprocessing} preprocessing"
        return f"{finder}, CLIP by open_clip, star-bench rules"

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Raises MissingWeights where the prompts are a file's and the detector, which names the classes, is not there."""
        options = self._options
        if options is None:
            return OFFICIAL
        classes = options.classes or _class_names(self.settings.detector.weights.locate())
        return Vocabulary(tuple(classes), tuple(options.colors))

    @cached_property
    def _options(self) -> Words | None:
        source, where = self.card.prompts, f"suite {self.card.name}: prompts"
        match source.generator:
            case "geneval-official":
                return None
            case "geneval":
                return parse(PromptOptions, source.options, f"{where}.options")
            case None if source.path:
                return parse(Words, source.options, f"{where}.options")
        raise UsageError(
            f"{where}: GenEval has no prompt generator {source.generator!r}",
            "use geneval-official or geneval, or give 'path', a file of metadata rows, instead",
        )

    def prompts(self) -> list[Prompt]:
        """Generated, or the metadata rows of the card's file. Raises UsageError, with the line, for a row that can't be
        judged."""
        options = self._options
        if options is None:
            rows = official()
        elif isinstance(options, PromptOptions):
            rows = generate(self.vocabulary, seed=options.seed, rows=options.rows)
        else:
            rows = [row for _, row in judged_rows(prompt_files.prompts_of(self.card).locate(), self.vocabulary)]
        return [Prompt(f"{i:05d}", row["prompt"], row["tag"], row) for i, row in enumerate(rows)]

    def training_prompts(self) -> list[Prompt]:
        """One per line of the card's training file, which is metadata such as `prompts` has.

        Raises what Evaluator.training_prompts raises, and UsageError, with the line, for a row that can't be judged.
        """
        rows = judged_rows(prompt_files.locate_training(self.card), self.vocabulary)
        ids = training_ids((number, row["prompt"]) for number, row in rows)
        return [Prompt(name, row["prompt"], row["tag"], row) for name, (_, row) in zip(ids, rows, strict=True)]

    def judges(self) -> dict[str, str]:
        settings = self.settings
        return {
            "detector": folder_digest(settings.detector.weights.locate()),
            "color": folder_digest(settings.color.weights.locate()),
        }

    @cached_property
    def _detector(self) -> Detector:
        from star_bench.evaluators.geneval.detection.preprocess import check_preprocessing

        settings = self.settings.detector
        preprocessing = check_preprocessing(settings.preprocessing)
        make = plugins.load(plugins.DETECTORS, settings.plugin)
        detector: Detector = make(settings.weights.locate(), device=self.device, preprocessing=preprocessing)
        if len(detector.names) != len(self.vocabulary.classes):
            raise Refused(
                f"the detector knows {len(detector.names)} classes and suite {self.card.name} speaks of "
                f"{len(self.vocabulary.classes)}",
                "give the suite the detector that it was made for",
            )
        return detector

    @cached_property
    def _color_judge(self) -> OpenClipColorJudge:
        from star_bench.evaluators.geneval.color import OpenClipColorJudge

        card = self.settings.color
        return OpenClipColorJudge(
            card.weights.locate(), self.vocabulary.colors, device=self.device, quick_gelu=card.quick_gelu
        )

    def _threshold(self, prompt: Prompt) -> float:
        settings = self.settings.detector
        return settings.counting_threshold if prompt.metadata["tag"] == "counting" else settings.threshold

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        return [verdict() for verdict in self._verdicts(images, prompts)]

    def begin(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> Sequence[Begun]:
        """The verdicts are left to do."""
        if type(self).score is not GenEval.score:  # a subclass that scores in its own way
            return super().begin(images, prompts)
        return self._verdicts(images, prompts)

    def _verdicts(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Callable[[], Score]]:
        """One forward of the detector for pictures of one size; the crops of all pictures in batches through CLIP."""
        detections, found = self._find(images, prompts)
        asked = [needs_color(prompt.metadata, kept) for prompt, kept in zip(prompts, found, strict=True)]
        colors = self._colors(images, detections, asked)
        return [
            partial(_score, prompt.metadata, seen.masks, kept, votes)
            for prompt, seen, kept, votes in zip(prompts, detections, found, colors, strict=True)
        ]

    def _find(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> tuple[list[Detections], list[Found]]:
        """Of each picture all detections above its prompt's threshold, and those that the verdict looks at."""
        thresholds = [self._threshold(prompt) for prompt in prompts]
        detections = self._detector.detect(images, thresholds)
        most = self.settings.detector.max_objects
        found = [
            keep(seen, self.vocabulary.classes, threshold, most)
            for seen, threshold in zip(detections, thresholds, strict=True)
        ]
        return detections, found

    def _colors(
        self, images: Sequence[Image], detections: Sequence[Detections], asked: Sequence[list[DetectedObject]]
    ) -> list[dict[int, Votes]]:
        """Of each picture, how the objects asked for were voted on, by their row among its detections."""
        if not any(asked):
            return [{} for _ in asked]
        from star_bench.evaluators.geneval.color import crop

        crops = [
            crop(image, thing.box, seen.masks[thing.index])
            for image, seen, things in zip(images, detections, asked, strict=True)
            for thing in things
        ]
        names = [thing.name for things in asked for thing in things]
        votes = self._color_judge.votes(names, crops)
        colors = self.vocabulary.colors
        each = iter(
            # The sort is stable: of equal similarities the first wins, as in an argmax.
            {colors[c]: round(float(share[c]), VOTE_DIGITS) for c in np.argsort(-similarity, kind="stable")}
            for similarity, share in zip(votes, self._color_judge.shares(votes), strict=True)
        )
        return [{thing.index: next(each) for thing in things} for things in asked]

    def asked(self, metadata: dict[str, Any], where: str) -> str | None:
        """None where nothing is said of what must be there. Raises UsageError for a row that can't be judged."""
        if "include" not in metadata:
            return None
        return parse_row(PromptRow, json.dumps(metadata), where, "give GenEval's metadata row").asked()

    def cuts(self, prompts: Sequence[Prompt]) -> list[Cut]:
        """None: the judges read the prompts' metadata, which is short."""
        return []

    def exports(self, judged: Iterable[Judged]) -> dict[str, str]:
        """results.jsonl, as the official evaluator writes it; a picture without a score can't stand in it."""
        rows = (_result_row(each) for each in judged if each.score.status is Status.OK)
        return {"results.jsonl": "".join(to_line(row) + "\n" for row in rows)}

    def reward_of(self, score: Score) -> float:
        """Partial credit."""
        return partial_credit(score)

    def regions(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[np.ndarray]:
        """The masks of all objects that the verdict looks at, of the classes that the prompt asks for, as one: objects too
        many and in a wrong colour or place are among them."""
        detections, found = self._find(images, prompts)
        return [
            np.any(seen.masks[_rows_of({clause["class"] for clause in prompt.metadata["include"]}, kept)], axis=0)
            for prompt, seen, kept in zip(prompts, detections, found, strict=True)
        ]


def _rows_of(classes: Container[str], found: Found) -> list[int]:
    """The objects of some classes, by their row among the picture's detections."""
    return [thing.index for name, objects in found.items() if name in classes for thing in objects]


def _class_names(folder: Path) -> Sequence[str]:
    """What the detector's weights call their classes. COCO's 80 have GenEval's names, which differ in three."""
    path = folder / "config.json"
    try:
        labels = read_config(path)["id2label"]
        names = [str(labels[str(i)]) for i in range(len(labels))]
    except (LookupError, TypeError) as error:
        raise Refused(f"{path} names no classes ({error})", "give the suite's prompts.options 'classes'") from None
    return COCO_CLASSES if len(names) == len(COCO_CLASSES) else names


def _winner(votes: Votes) -> str:
    return next(iter(votes))


def _score(metadata: dict[str, Any], masks: np.ndarray, found: Found, votes: dict[int, Votes]) -> Score:
    def color_of(objects: Sequence[DetectedObject]) -> list[str]:
        return [_winner(votes[thing.index]) for thing in objects]

    verdict, strictly = judge(metadata, found, color_of), judge_strictly(metadata, found, color_of)
    detail = {
        "reason": verdict.reason,
        "strict": strictly.correct,
        "partial": strictly.credit,
        "detections": [
            _seen(thing, masks[thing.index], votes.get(thing.index)) for objects in found.values() for thing in objects
        ],
    }
    return Score(float(verdict.correct), Status.OK, detail)


def _seen(thing: DetectedObject, mask: np.ndarray, votes: Votes | None) -> dict[str, Any]:
    """A detection for the record. mask bool (H, W); votes are those of an object whose colour was judged."""
    seen: dict[str, Any] = {"class": thing.name, "score": thing.score, "box": thing.box.tolist()}
    if (stored := encode(mask, thing.box)) is not None:
        seen["mask"] = stored
    if votes:
        seen["color"] = _winner(votes)
        seen["votes"] = {color: share for color, share in votes.items() if share}
    return seen


def _result_row(judged: Judged) -> ResultRow:
    found: Found = {}
    for seen in judged.score.detail["detections"]:
        thing = DetectedObject(seen["class"], seen["score"], np.array(seen["box"], np.float32))
        found.setdefault(thing.name, []).append(thing)
    return ResultRow(
        filename=judged.path,
        tag=judged.prompt.metadata["tag"],
        prompt=judged.prompt.text,
        correct=bool(judged.score.value),
        reason=str(judged.score.detail["reason"]),
        metadata=judged.prompt.metadata,
        details=found,
    )
