"""OCR accuracy: is the quoted text of the prompt in the picture? Flow-GRPO's rule on a named reader's output.

Flow-GRPO reads with PaddleOCR 2.9.1. Another reader is another metric, so the reader, its version and the upscaling
are all in the metric's identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from pydantic import Field

from star_bench import plugins, prompt_files
from star_bench.cards import Strict, parse
from star_bench.errors import StarBenchError, UsageError
from star_bench.evaluators.base import (
    Aggregate,
    Canary,
    Evaluator,
    Image,
    Metric,
    Prompt,
    Score,
    Status,
)
from star_bench.evaluators.ocr.recogniser import Recogniser
from star_bench.evaluators.ocr.rule import accuracy, distance, target_of
from star_bench.suites import SuiteCard

CANARY_WORD = "STAR"
CANARY_SIDE = 256  # pixels that the reader sees, after upscaling: the miniature's 64 times 4


class OcrJudge(Strict):
    """The card's `judges`."""

    recogniser: str = "rapidocr"
    """A name in the entry point group star_bench.recognisers."""
    upscale: int = Field(default=1, ge=1, le=8)
    """Bicubic enlargement before reading; pictures of 64 pixels need 4."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The recogniser's own."""


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
        self.judge = parse(OcrJudge, card.judges, f"suite {card.name}, judges")
        self.recogniser: Recogniser = plugins.load(plugins.RECOGNISERS, self.judge.recogniser)(self.judge.settings)
        enlarged = f", x{self.judge.upscale} bicubic" if self.judge.upscale > 1 else ""
        self.metric = Metric(
            name="OCR accuracy",
            implementation=self.recogniser.implementation + enlarged,
            version=self.recogniser.version,
            unit="1 - normalised edit distance",
            range=(0.0, 1.0),
            licence=self.recogniser.licence,
            paper="arXiv:2505.05470",
        )

    @cached_property
    def _prompts(self) -> list[Prompt]:
        prompts = []
        for i, text in enumerate(prompt_files.read(self.card)):
            try:
                target = target_of(text)
            except ValueError as error:
                where = f"line {i + 1} of the prompts of suite {self.card.name!r}"
                raise UsageError(
                    f"{where} {error}",
                    'write exactly one target in quotes, as in: a sign "OPEN"',
                ) from None
            prompts.append(Prompt(f"{i:05d}", text, metadata={"target": target}))
        return prompts

    def prompts(self) -> list[Prompt]:
        """One per line of the card's file. Raises UsageError, with the line, for one without exactly one target."""
        return list(self._prompts)

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        """One image at a time, so a score can't depend on its batch. Raises MissingWeights, ValueError (no target)."""
        return [self._score(image, prompt) for image, prompt in zip(images, prompts, strict=True)]

    def _score(self, image: Image, prompt: Prompt) -> Score:
        target = target_of(prompt.text)
        try:
            read = self.recogniser.read(self._enlarge(image))
        except StarBenchError:  # missing weights concern every image, not this one
            raise
        except Exception as error:  # noqa: BLE001 - native code and plugins raise anything; one image must not end the run
            return Score(None, Status.ERROR, {"error": f"{type(error).__name__}: {error}"[:500]})
        detail = {"target": target, "read": read, "distance": distance(target, read)}
        return Score(accuracy(target, read), detail=detail)

    def _enlarge(self, image: Image) -> Image:
        factor = self.judge.upscale
        if factor == 1:
            return image
        height, width = image.shape[:2]
        picture = PIL.Image.fromarray(image)
        return np.asarray(picture.resize((width * factor, height * factor), PIL.Image.Resampling.BICUBIC))

    def canaries(self) -> list[Canary]:
        """A clear word that must be read, a blank picture that must not, and those of the card."""
        side = CANARY_SIDE // self.judge.upscale
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

    def judges(self) -> dict[str, str]:
        return {**self.recogniser.judges(), "upscale": f"x{self.judge.upscale} bicubic"}


def drawn_word(word: str, side: int) -> Image:
    """(side, side, 3): black letters in the middle of a white picture, in the font that Pillow brings."""
    picture = PIL.Image.new("RGB", (side, side), "white")
    font = PIL.ImageFont.load_default(side / 4)
    PIL.ImageDraw.Draw(picture).text((side / 2, side / 2), word, fill="black", font=font, anchor="mm")
    return np.asarray(picture)
