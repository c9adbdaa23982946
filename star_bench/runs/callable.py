"""A function of the user's as a model: it is given prompts and seeds, and gives pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image

from star_bench.errors import UsageError
from star_bench.evaluators.base import Image
from star_bench.files.digests import digest_of
from star_bench.runs.plan import Item, Subject
from star_bench.runs.workers import Generate

Draw = Callable[[list[str], list[int]], Sequence[Any]]
"""(prompts, seeds) -> a picture of each, in order: PIL images, or arrays (H, W, 3) of uint8. A seed, 63 bits, is that of
image k of a prompt; the same prompt and seed should give the same picture, whatever the batch."""


@dataclass(frozen=True)
class CallableModel:
    """name and version say what it is, since a function has no digest: with another version all is drawn anew."""

    name: str
    draw: Draw
    version: str = ""

    def subject(self, seed: int) -> Subject:
        digest = digest_of(["callable", self.name, self.version, seed])
        return Subject(self.name, digest, "not stated", foreign=True)

    def maker(self, seed: int) -> Generate:
        """As a pipeline's: pictures of items. Raises UsageError where the function gives something else."""
        from star_bench.generation.noise import noise_seed

        def make(items: list[Item]) -> list[Image]:
            seeds = [noise_seed(seed, item.prompt.id, item.k) for item in items]
            pictures = list(self.draw([item.prompt.text for item in items], seeds))
            if len(pictures) != len(items):
                raise UsageError(
                    f"{self.name} gave {len(pictures)} pictures of {len(items)} prompts",
                    "return one for each, in order",
                )
            return [as_image(picture, f"what {self.name} gave") for picture in pictures]

        return make


def as_image(picture: Any, where: str) -> Image:
    """(H, W, 3) uint8 of a PIL image or an array. Raises UsageError for anything else."""
    if isinstance(picture, PIL.Image.Image):
        return np.asarray(picture.convert("RGB"))
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise UsageError(
            f"{where} is an array of shape {array.shape} and {array.dtype}",
            "give PIL images, or arrays (height, width, 3) of uint8, 0 to 255",
        )
    return array
