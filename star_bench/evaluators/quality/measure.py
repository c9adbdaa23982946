"""What the panel is made of: measures, each with an identity of its own, that look at one picture at a time.

Matrix products differ in the last bits between batch sizes, and a score may not depend on its batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from star_bench.evaluators.base import Aggregate, Cut, Image, Prompt, Score

if TYPE_CHECKING:
    from torch import Tensor

    from star_bench.evaluators.quality.clip import Clip


@dataclass(frozen=True)
class About:
    """A measure's identity, but for the digest of its weights."""

    name: str
    """Of the measure, and of its aggregate."""
    kind: str
    unit: str
    implementation: str
    """Library and model."""
    licence: str
    paper: str
    better: Literal["higher", "none"]
    """none: a description, which should stay where it was."""


class Picture:
    """A picture (H, W, 3) uint8 with a prompt, and what each CLIP saw in it: measures that share a CLIP share its
    forward."""

    def __init__(self, pixels: Image, prompt: str) -> None:
        self.pixels = pixels
        self.prompt = prompt
        self._features: dict[Clip, Tensor] = {}

    def features(self, clip: Clip) -> Tensor:
        """(1, D) float32, of length one."""
        if clip not in self._features:
            self._features[clip] = clip.image_features(self.pixels)
        return self._features[clip]


class Measure(ABC):
    """One kind of a card's measures. It loads its weights lazily."""

    about: About

    def files(self) -> dict[str, Path]:
        """Name -> file or folder of weights. Raises MissingWeights, quickly; opens none of them and imports no torch."""
        return {}

    def cut(self, prompts: Sequence[Prompt]) -> Cut | None:
        """Which prompts are longer than it reads; None, and by default, for a measure that reads none."""
        return None

    @property
    def aggregate(self) -> Aggregate:
        """Of what `Score.detail` holds."""
        return Aggregate(self.about.name, self._title, value=self._of_score)

    @property
    def _title(self) -> str:
        title = f"{self.about.name} [{self.about.unit}], {self.about.implementation}"
        return title if self.about.better == "higher" else f"{title} (a description)"

    @abstractmethod
    def _of_score(self, score: Score) -> Any:
        """What this measure put into the detail of a score that is ok."""


class ImageMeasure(Measure):
    """Says a number of each picture; it stands in detail["measures"]."""

    @abstractmethod
    def value(self, picture: Picture) -> float:
        """Raises MissingWeights or Refused for its weights, and anything for a picture that it can't judge."""

    def _of_score(self, score: Score) -> float:
        return float(score.detail["measures"][self.about.name])
