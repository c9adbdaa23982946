"""A recogniser as a card names it: enlargement, settings, and the processes that it reads in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
from pydantic import Field, JsonValue

from star_bench.catalogue import plugins
from star_bench.catalogue.cards import Strict
from star_bench.evaluators.base import Image
from star_bench.evaluators.ocr.pool import Pool, Reading
from star_bench.evaluators.ocr.recogniser import Recogniser


class OcrJudge(Strict):
    """The card's `judges`."""

    recogniser: str = "rapidocr"
    """A name in the entry point group star_bench.recognisers."""
    upscale: int = Field(default=1, ge=1, le=8)
    """Bicubic enlargement before reading; pictures of 64 pixels need 4."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """The recogniser's own."""


class Reader:
    """Raises UsageError for a recogniser that is not there, or does not know a setting."""

    def __init__(self, judge: OcrJudge) -> None:
        self.upscale = judge.upscale
        self.recogniser: Recogniser = plugins.load(plugins.RECOGNISERS, judge.recogniser)(judge.settings)
        self.implementation = self.recogniser.implementation + (
            f", x{self.upscale} bicubic" if self.upscale > 1 else ""
        )
        self.pool = Pool(judge.recogniser, judge.settings)

    def read(self, images: Sequence[Image]) -> list[Reading]:
        """One per image, in order; each is read alone. Raises MissingWeights."""
        wrong = {i: problem for i, image in enumerate(images) if (problem := _problem(image))}
        read = iter(self.pool.read([self._enlarge(image) for i, image in enumerate(images) if i not in wrong]))
        return [Reading(None, wrong[i]) if i in wrong else next(read) for i in range(len(images))]

    def _enlarge(self, image: Image) -> Image:
        if self.upscale == 1:
            return image
        height, width = image.shape[:2]
        size = width * self.upscale, height * self.upscale
        return np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BICUBIC))

    def judges(self) -> dict[str, str]:
        """Name -> digest or version of all that can change what is read. Raises MissingWeights."""
        return {**self.recogniser.judges(), "upscale": f"x{self.upscale} bicubic"}


def _problem(image: Image) -> str:
    """Why an array is no picture, or ""."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        return f"a picture is uint8 (height, width, 3) and not {image.dtype} {image.shape}"
    return ""
