"""Where an image stands by its score: among the images of its prompt, and among all."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from star_bench.runs.finished import RunImage


@dataclass(frozen=True)
class Rank:
    """1 is the highest score; images of the same score share the better rank. `of` and `of_all` count scores."""

    within: int
    of: int
    overall: int
    of_all: int


def ranks(images: Sequence[RunImage]) -> list[Rank | None]:
    """One per image, in order; None where there is no score."""
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for image in images:
        if image.value is not None:
            by_prompt[image.prompt.id].append(-image.value)
    everything = sorted(value for values in by_prompt.values() for value in values)
    for values in by_prompt.values():
        values.sort()

    def rank(image: RunImage) -> Rank | None:
        if image.value is None:
            return None
        own = by_prompt[image.prompt.id]
        return Rank(
            within=bisect_left(own, -image.value) + 1,
            of=len(own),
            overall=bisect_left(everything, -image.value) + 1,
            of_all=len(everything),
        )

    return [rank(image) for image in images]
