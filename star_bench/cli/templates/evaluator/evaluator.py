"""A judge: pictures and prompts in, a score of each out."""

from __future__ import annotations

from collections.abc import Sequence

from star_bench.evaluators.base import Evaluator, Image, Metric, Prompt, Score, one_per_line


class Judge(Evaluator):
    """The mean brightness of a picture, 0 to 1: put your own judge in its place. Raise the version with any change that can
    change a score."""

    metric = Metric(
        name="Brightness",
        implementation="$NAME",
        version="1",
        unit="share of white",
        range=(0.0, 1.0),
        licence="not stated",
        paper="",
    )

    def prompts(self) -> list[Prompt]:
        """One per line of the card's prompt file."""
        return one_per_line(self.card)

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        """images: (height, width, 3) uint8. The same score whatever the batch."""
        return [Score(float(image.mean()) / 255) for image in images]
