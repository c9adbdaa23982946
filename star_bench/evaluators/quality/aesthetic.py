"""LAION's improved aesthetic predictor (sac+logos+ava1-l14-linearMSE): how people would rate a picture's looks, 1 to 10.

It reads features of OpenAI's CLIP ViT-L/14 and knows nothing of the prompt.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from star_bench.assets.weights import WeightsReference
from star_bench.catalogue.cards import Strict
from star_bench.evaluators.quality import checkpoint
from star_bench.evaluators.quality.clip import Clip
from star_bench.evaluators.quality.measure import About, ImageMeasure, Picture

if TYPE_CHECKING:
    from star_bench.evaluators.quality.linear_head import LinearHead


class AestheticCard(Strict):
    kind: Literal["aesthetic"]
    name: str
    clip: str
    """One of the card's clips: the one that the head was trained on."""
    weights: WeightsReference


class Aesthetic(ImageMeasure):
    def __init__(self, card: AestheticCard, clip: Clip, licence: str) -> None:
        self.clip = clip
        self.weights = card.weights
        self.about = About(
            name=card.name,
            kind=card.kind,
            unit="predicted rating, 1 to 10",
            implementation=f"linear head on open_clip {clip.name}",
            licence=f"{licence}; its CLIP: {clip.licence}",
            paper="github.com/christophschuhmann/improved-aesthetic-predictor",
            better="higher",
        )

    def files(self) -> dict[str, Path]:
        return {self.clip.name: self.clip.folder, self.about.name: checkpoint.find(self.weights)}

    @cached_property
    def _head(self) -> LinearHead:
        from star_bench.evaluators.quality.linear_head import LinearHead

        head = LinearHead(self.clip.width)
        checkpoint.fit(head, checkpoint.find(self.weights))
        return head.to(self.clip.device).eval().requires_grad_(False)

    def value(self, picture: Picture) -> float:
        return float(self._head(picture.features(self.clip)))
