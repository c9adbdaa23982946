"""CLIPScore (arXiv:2104.08718) without its factor: 100 x max(cosine, 0).

The paper has 2.5 x max(cosine, 0) with ViT-B/32; others print 100 x with any CLIP. So the CLIP and the unit are parts of
the measure's identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from star_bench.catalogue.cards import Strict
from star_bench.evaluators.base import Cut, Prompt
from star_bench.evaluators.quality.clip import Clip
from star_bench.evaluators.quality.measure import About, ImageMeasure, Picture


class ClipScoreCard(Strict):
    kind: Literal["clip_score"]
    name: str
    clip: str
    """One of the card's clips."""


class ClipScore(ImageMeasure):
    def __init__(self, card: ClipScoreCard, clip: Clip) -> None:
        self.clip = clip
        self.about = About(
            name=card.name,
            kind=card.kind,
            unit="100 x cosine",
            implementation=f"open_clip {clip.name}",
            licence=clip.licence,
            paper="arXiv:2104.08718",
            better="higher",
        )

    def files(self) -> dict[str, Path]:
        return {self.clip.name: self.clip.folder}

    def cut(self, prompts: Sequence[Prompt]) -> Cut:
        return self.clip.cut(self.about.name, prompts)

    def value(self, picture: Picture) -> float:
        import torch

        features = picture.features(self.clip)
        cosine = torch.cosine_similarity(features, self.clip.text_features(picture.prompt))
        return 100 * max(float(cosine), 0.0)
