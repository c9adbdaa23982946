"""The contract between a suite's judge and everything that runs it: prompts in, scored images out.

An evaluator knows images and prompts. It knows nothing of pipelines, runs or training. Images are uint8 RGB
arrays (H, W, 3) that never passed through JPEG.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from star_bench.assets import prompt_files
from star_bench.assets.asset import Asset
from star_bench.catalogue.suites import CanaryCard, RelativeCanaryCard, SuiteCard
from star_bench.errors import Refused, UsageError
from star_bench.evaluators.install import of_references
from star_bench.files.pictures import read_picture
from star_bench.memory import fitting

Image = np.ndarray
"""(H, W, 3) uint8 RGB."""


@dataclass(frozen=True)
class Prompt:
    """id names the prompt in files and seeds its noise ("00042"); metadata is the evaluator's own; tag groups results."""

    id: str
    text: str
    tag: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


class Status(StrEnum):
    """ok, or why there is no score. A failure is never scored 0."""

    OK = "ok"
    MISSING = "missing"
    CORRUPT = "corrupt"
    DEGENERATE = "degenerate"
    ERROR = "error"


@dataclass(frozen=True)
class Score:
    """value is None exactly when status is not ok; detail is JSON-able (what the judge saw, and why)."""

    value: float | None
    status: Status = Status.OK
    detail: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.value is None) == (self.status is Status.OK):
            raise ValueError("a score has a value exactly when its status is ok")
        if self.value is not None and not np.isfinite(self.value):
            raise ValueError(f"a score must be finite, not {self.value}")


@dataclass(frozen=True)
class Judged:
    """An image that was planned, with its score; path is relative to the run's folder."""

    prompt: Prompt
    path: str
    score: Score


@dataclass(frozen=True)
class Metric:
    """Metric identity: numbers whose identities differ are not comparable."""

    name: str
    implementation: str
    version: str
    unit: str
    range: tuple[float | None, float | None]
    licence: str
    paper: str

    @property
    def identity(self) -> str:
        return f"{self.name} [{self.unit}], {self.implementation} {self.version}"


@dataclass(frozen=True)
class Canary:
    """A picture with known content. Its score, or with `above` what it is higher than with that prompt, must lie in
    [low, high], or nothing is scored."""

    name: str
    image: Image
    prompt: Prompt
    low: float
    high: float
    above: Prompt | None = None
    measure: str | None = None
    """The aggregate whose value is looked at; None: the score's."""


@dataclass(frozen=True)
class Cut:
    """What somebody does not read of prompts: a reader (a model or measure, by name), the tokens that it reads at most, its
    own marks counted, and the ids of the prompts that have more, in their order."""

    reader: str
    tokens: int
    prompts: Sequence[str]


def _value(score: Score) -> float:
    assert score.value is not None
    return score.value


@dataclass(frozen=True)
class Aggregate:
    """A named way to make one number of many scores.

    of_tags: the unweighted mean of the tags' means, instead of the mean over all.
    value: what is taken from a score that is ok.
    of_prompt: makes one value of those of all images of a prompt, which then counts once, instead of each image
    counting. A prompt that lacks a score is left out, and one of which it makes None.
    """

    name: str
    title: str
    of_tags: bool = False
    value: Callable[[Score], Any] = _value
    of_prompt: Callable[[Sequence[Any]], float | None] | None = None


Begun = Score | Callable[[], Score]
"""A score, or what makes it without the judge's networks and their device."""


class Evaluator(ABC):
    """A suite's judge. One instance is made per run from the suite's card; it loads its weights lazily.

    Registered under the entry point group `star_bench.evaluators` and named by a card's `evaluator` key.
    """

    metric: Metric
    aggregates: tuple[Aggregate, ...] = (Aggregate("mean", "mean over images"),)
    """The first is the headline number."""

    def __init__(self, card: SuiteCard, *, device: str = "cpu") -> None:
        self.card = card
        self.device = device

    @abstractmethod
    def prompts(self) -> list[Prompt]:
        """All prompts of the suite, in their order. Raises UsageError or Refused for a broken prompt file."""

    def training_prompts(self) -> list[Prompt]:
        """What models for this suite are trained on: one prompt per line of the card's training file, in order, without
        blank lines.

        Ids are stable, and none is in `prompts`, since an id seeds noise: "train-00042" is line 43. Lines with the same
        text are one prompt, with the id of the first; it is drawn as often as the file says it where lines are drawn.

        Raises UsageError where the card names no training prompts, and what PromptFile.locate and
        prompt_files.lines_of raise.
        """
        return [prompt for _, prompt in one_per_training_line(self.card)]

    def training_notes(self) -> list[str]:
        """What of the training file is not in `training_prompts`, in sentences for a person. Raises what that raises."""
        return []

    @abstractmethod
    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        """One score per image, in order. Deterministic, and the same whatever the batch."""

    def begin(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> Sequence[Begun]:
        """`score`, of which the part that needs no device may be left to do: a run does it, on another thread, while the
        next batch is on the device. By default nothing is left."""
        return self.score(images, prompts)

    def canaries(self) -> list[Canary]:
        """Pictures with known content; by default those that the card names."""
        return [_canary(i, card, self.card.folder) for i, card in enumerate(self.card.canaries)]

    def reward_of(self, score: Score) -> float:
        """What a score that is ok is worth in training, in [0, 1]: partial credit. By default its value."""
        return _value(score)

    def reward(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[float | None]:
        """The rewards of pictures, None where there is no score."""
        return [None if s.value is None else self.reward_of(s) for s in self.score(images, prompts)]

    def regions(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[np.ndarray]:
        """(H, W) bool per image, in order: where it shows what its prompt names, by the judge's own finding; all False
        where it found nothing. Raises UsageError, and by default always does: few judges look for places.
        """
        raise UsageError(
            f"the judge of suite {self.card.name!r} gives a score and no regions of the picture",
            "use it without oracle maps, or a suite whose judge detects objects, as GenEval's does",
        )

    def asked(self, metadata: dict[str, Any], where: str) -> str | None:
        """All of a prompt's metadata that a picture is judged by, equal for two prompts just where they are judged alike;
        None where the judge goes by the text, and by default. where: what the metadata are of, for messages."""
        return None

    def cuts(self, prompts: Sequence[Prompt]) -> list[Cut] | None:
        """Which prompts the judge reads only the beginning of; none, for a judge that reads no prompts. None where that is
        not known, and by default."""
        return None

    def exports(self, judged: Iterable[Judged]) -> dict[str, str]:
        """File name -> text: results in the form that this benchmark's own tools write and read. By default none."""
        return {}

    def measures(self) -> list[dict[str, Any]]:
        """Of an evaluator that measures several things: what each aggregate is, under the aggregate's name, as plain data
        for results.json. By default none: the metric says it all.
        """
        return []

    def assets(self) -> list[Asset]:
        """What the judge needs on this machine; by default the weights that the card's `judges` name. Touches no network."""
        return of_references(self.card)

    def judges(self) -> dict[str, str]:
        """Name -> content digest (or version) of everything that judges. Enters the run's digest.

        Raises MissingWeights, in under two seconds and without a network, where a judge is not there.
        """
        return {}


def _canary(i: int, card: CanaryCard | RelativeCanaryCard, folder: Path) -> Canary:
    name, image = card.image, read_picture(folder / card.image)
    if isinstance(card, RelativeCanaryCard):
        prompt, other = Prompt(f"canary-{i}", card.prompt), Prompt(f"canary-{i}-above", card.above)
        return Canary(name, image, prompt, card.by, math.inf, other, card.measure)
    prompt = Prompt(f"canary-{i}", card.prompt, str(card.metadata.get("tag", "")), card.metadata)
    return Canary(name, image, prompt, card.low, card.high)


def one_per_line(card: SuiteCard) -> list[Prompt]:
    """A prompt for each line of the card's prompt file, or with `repeats` one for each different line; named by its
    place. Raises what `prompt_files.read` raises."""
    return [Prompt(f"{i:05d}", text) for i, text in enumerate(prompt_files.read(card))]


def training_ids(texts: Iterable[tuple[int, str]]) -> list[str]:
    """The ids of training prompts, given each one's line, from 1, and text."""
    first: dict[str, int] = {}
    return [f"train-{first.setdefault(text, line) - 1:05d}" for line, text in texts]


def one_per_training_line(card: SuiteCard) -> list[tuple[int, Prompt]]:
    """The lines of the card's training file as `Evaluator.training_prompts` says, each with its number, from 1."""
    lines = prompt_files.numbered_lines(prompt_files.locate_training(card))
    ids = training_ids(lines)
    return [(number, Prompt(name, text)) for name, (number, text) in zip(ids, lines, strict=True)]


def check_canaries(evaluator: Evaluator) -> int:
    """Judges the canaries; returns how many there were.

    Raises Refused at the first wrong judgement, UsageError for a canary's measure that says nothing of single pictures,
    and Incomplete for a judge that does not fit into memory.
    """
    canaries = evaluator.canaries()
    values = [_measured(evaluator, canary) for canary in canaries]
    asked = [(c.image, prompt) for c in canaries for prompt in (c.prompt, c.above) if prompt]
    with fitting(f"the judge of suite {evaluator.card.name!r}", evaluator.device, "free it of what else uses it"):
        scores = iter(evaluator.score([image for image, _ in asked], [prompt for _, prompt in asked]) if asked else [])
    for canary, value_of in zip(canaries, values, strict=True):
        found = [next(scores) for prompt in (canary.prompt, canary.above) if prompt]
        failed = next((score for score in found if score.value is None), None)
        if failed:
            got = f"{failed.status} ({failed.detail.get('error')})"
        else:
            got = f"{(value := _difference([value_of(score) for score in found])):.4g}"
            if canary.low <= value <= canary.high:
                continue
        more = f"{canary.low:g} more for {canary.prompt.text!r} than for {canary.above.text!r}" if canary.above else ""
        raise Refused(
            f"canary {canary.name!r} of {canary.measure or evaluator.metric.identity} must score "
            f"{more or f'{canary.low:g} to {canary.high:g}'} and got {got}, so the judge on this machine can't be trusted "
            "and nothing was scored",
            "run 'star-bench doctor' and reinstall the versions in constraints.txt",
        )
    return len(canaries)


def _measured(evaluator: Evaluator, canary: Canary) -> Callable[[Score], float]:
    if canary.measure is None:
        return _value
    known = {each.name: each for each in evaluator.aggregates if each.of_prompt is None}
    if canary.measure not in known:
        raise UsageError(
            f"suite {evaluator.card.name}: canary {canary.name!r} names the measure {canary.measure!r}, which says nothing "
            "of single pictures",
            f"name one of: {', '.join(known)}",
        )
    return known[canary.measure].value


def _difference(values: Sequence[float]) -> float:
    """Of the first value and, where there is one, the second."""
    first, *rest = values
    return first - sum(rest)
