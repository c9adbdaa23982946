"""OCR accuracy: is the quoted text of the prompt in the picture? Flow-GRPO's rule on a named reader's output.

Flow-GRPO reads with PaddleOCR 2.9.1. Another reader is another metric, so the reader, its version and the upscaling
are all in the metric's identity.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from star_bench.catalogue.cards import parse
from star_bench.catalogue.suites import SuiteCard
from star_bench.errors import UsageError
from star_bench.evaluators.base import (
    Aggregate,
    Canary,
    Cut,
    Evaluator,
    Image,
    Metric,
    Prompt,
    Score,
    Status,
    one_per_line,
    one_per_training_line,
)
from star_bench.evaluators.ocr.pool import Reading
from star_bench.evaluators.ocr.reader import OcrJudge, Reader
from star_bench.evaluators.ocr.rule import accuracy, distance, normalise, target_of

CANARY_WORD = "STAR"
LENGTHS = (8, 12, 16, 20)  # chosen here: ends of the classes; Flow-GRPO's targets are 83, 231, 345, 248 and 111 of each
PROBLEMS_SHOWN = 5
REMEDY = 'write exactly one target in quotes in each, as in: a sign "OPEN"'
CANARY_SIDE = 256  # pixels that the reader sees, after upscaling: the miniature's 64 times 4


def _exact(score: Score) -> float:
    return float(score.value == 1.0)


class Ocr(Evaluator):
    """The evaluator "ocr". Score: 1 - d / length of the target, in [0, 1]; detail: target, read, distance."""

    aggregates = (
        Aggregate("accuracy", "mean OCR accuracy"),
        Aggregate("exact", "images with the exact text", value=_exact),
    )

    def __init__(self, card: SuiteCard, *, device: str = "cpu") -> None:
        super().__init__(card, device=device)
        self.reader = Reader(parse(OcrJudge, card.judges, f"suite {card.name}, judges"))
        self.metric = Metric(
            name="OCR accuracy",
            implementation=self.reader.implementation,
            version=self.reader.recogniser.version,
            unit="1 - normalised edit distance",
            range=(0.0, 1.0),
            licence=self.reader.recogniser.licence,
            paper="arXiv:2505.05470",
        )

    @cached_property
    def _prompts(self) -> list[Prompt]:
        prompts, problems = _with_targets(enumerate(one_per_line(self.card), start=1))
        if problems:
            raise UsageError(f"the prompts of suite {self.card.name!r}: {_first(problems)}", REMEDY)
        return prompts

    @cached_property
    def _training(self) -> tuple[list[Prompt], list[str]]:
        prompts, problems = _with_targets(one_per_training_line(self.card))
        if not prompts:
            raise UsageError(f"no training prompt of suite {self.card.name!r} has a target: {_first(problems)}", REMEDY)
        return prompts, problems

    def prompts(self) -> list[Prompt]:
        """One per line of the card's file, tagged by the length of its target.

        Raises UsageError, with their lines, for those without exactly one target.
        """
        return list(self._prompts)

    def training_prompts(self) -> list[Prompt]:
        """As `prompts`, but without those that have not exactly one target: of a large file that others wrote, a few odd
        lines must not cost the rest. Flow-GRPO takes the first of several targets.

        Raises what Evaluator.training_prompts raises, and UsageError where no line has a target.
        """
        return list(self._training[0])

    def training_notes(self) -> list[str]:
        """How many lines have not exactly one target, and the first of them."""
        prompts, problems = self._training
        if not problems:
            return []
        count = f"{len(problems):,} of {len(prompts) + len(problems):,} training prompts of suite {self.card.name!r}"
        return [f"{count} have not exactly one target and are left out: {_first(problems)}"]

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        """Each image is read alone, so a score can't depend on its batch. Raises MissingWeights, ValueError (no target)."""
        targets = [target_of(prompt.text) for _, prompt in zip(images, prompts, strict=True)]
        return [_score(target, reading) for target, reading in zip(targets, self.reader.read(images), strict=True)]

    def canaries(self) -> list[Canary]:
        """A clear word that must be read, a blank picture that must not, and those of the card."""
        side = CANARY_SIDE // self.reader.upscale
        prompt = Prompt(
            "canary-word",
            f'a sign that says "{CANARY_WORD}"',
            metadata={"target": CANARY_WORD},
        )
        return [
            Canary("a clear word", drawn_word(CANARY_WORD, side), prompt, 1.0, 1.0),
            Canary(
                "a blank picture",
                np.full((side, side, 3), 200, np.uint8),
                prompt,
                0.0,
                0.0,
            ),
            *super().canaries(),
        ]

    def cuts(self, prompts: Sequence[Prompt]) -> list[Cut]:
        """None: of a prompt its target is compared, which is whole."""
        return []

    def judges(self) -> dict[str, str]:
        return self.reader.judges()


def _score(target: str, reading: Reading) -> Score:
    if reading.strings is None:
        return Score(None, Status.ERROR, {"error": reading.error})
    detail = {"target": target, "read": reading.strings, "distance": distance(target, reading.strings)}
    return Score(accuracy(target, reading.strings), detail=detail)


def _with_targets(prompts: Iterable[tuple[int, Prompt]]) -> tuple[list[Prompt], list[str]]:
    """Those of the numbered prompts that have a target, tagged by its length; of the others, what is wrong with each."""
    good, problems = [], []
    for line, prompt in prompts:
        try:
            target = target_of(prompt.text)
        except ValueError as error:
            problems.append(f"line {line} {error}")
        else:
            good.append(dataclasses.replace(prompt, tag=length_class(target), metadata={"target": target}))
    return good, problems


def _first(problems: Sequence[str]) -> str:
    more = f"; and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
    return "; ".join(problems[:PROBLEMS_SHOWN]) + more


def length_class(target: str) -> str:
    """Such as "9-12 characters", counted as the rule does: without spaces."""
    length, lowest = len(normalise(target)), 1
    for highest in LENGTHS:
        if length <= highest:
            return f"{lowest}-{highest} characters"
        lowest = highest + 1
    return f"{lowest}+ characters"


def drawn_word(word: str, side: int) -> Image:
    """(side, side, 3): black letters in the middle of a white picture, in the font that Pillow brings."""
    picture = PIL.Image.new("RGB", (side, side), "white")
    font = PIL.ImageFont.load_default(side / 4)
    PIL.ImageDraw.Draw(picture).text((side / 2, side / 2), word, fill="black", font=font, anchor="mm")
    return np.asarray(picture)
