"""How much the images of a prompt differ: the mean of 1 - cosine of CLIP features over all pairs. Chosen here.

Each score keeps its features; the pairs are formed when a run is summarised, so no image waits for another.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from star_bench.catalogue.cards import Strict
from star_bench.evaluators.base import Aggregate, Score
from star_bench.evaluators.quality.clip import Clip
from star_bench.evaluators.quality.measure import About, Measure, Picture


class DiversityCard(Strict):
    kind: Literal["diversity"]
    name: str
    clip: str
    """One of the card's clips."""


def pack(features: np.ndarray) -> str:
    """Numbers (D,) as base64 of little-endian float16: 2 kB for 768. Raises ValueError for one that is not finite."""
    if not np.isfinite(features).all():
        raise ValueError("the features are not finite")
    return base64.b64encode(features.astype("<f2").tobytes()).decode()


def unpack(text: str) -> np.ndarray:
    """(D,) float64."""
    return np.frombuffer(base64.b64decode(text), "<f2").astype(float)


def mean_distance(packed: Sequence[str]) -> float | None:
    """Of a prompt's images; None for a single one. Features are given their length of one again, which packing rounds."""
    if len(packed) < 2:
        return None
    features = np.stack([unpack(text) for text in packed])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    rows, columns = np.triu_indices(len(features), k=1)
    return float((1 - (features @ features.T)[rows, columns]).mean())


class Diversity(Measure):
    """The only measure of whole prompts; what it keeps of an image stands in detail["features"]."""

    def __init__(self, card: DiversityCard, clip: Clip) -> None:
        self.clip = clip
        self.about = About(
            name=card.name,
            kind=card.kind,
            unit="1 - cosine, mean over a prompt's pairs",
            implementation=f"open_clip {clip.name}",
            licence=clip.licence,
            paper="chosen here",
            better="none",
        )

    def files(self) -> dict[str, Path]:
        return {self.clip.name: self.clip.folder}

    def features(self, picture: Picture) -> str:
        """Packed. Raises ValueError for features that are not finite."""
        return pack(picture.features(self.clip)[0].cpu().numpy())

    @property
    def aggregate(self) -> Aggregate:
        return replace(super().aggregate, of_prompt=mean_distance)

    def _of_score(self, score: Score) -> str:
        return str(score.detail["features"][self.about.name])
