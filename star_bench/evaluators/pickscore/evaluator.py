"""Preference: how well a CLIP that learned it thinks a picture fits its prompt. PickScore, or the miniature's own.

Four scales of PickScore circulate (cosine, logit, logit / 26, softmax of a pair). This is the logit, exp(logit_scale)
* cosine, which Flow-GRPO and its successors print; the unit is a part of the metric's identity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from star_bench.assets.asset import Asset
from star_bench.catalogue.suites import SuiteCard
from star_bench.errors import StarBenchError
from star_bench.evaluators.base import Cut, Evaluator, Image, Prompt, Score, Status, one_per_line
from star_bench.evaluators.pickscore.backends import make_backend
from star_bench.memory import is_out_of_memory


class Preference(Evaluator):
    """The evaluator "preference". Score: exp(logit_scale) * cosine; detail: cosine."""

    def __init__(self, card: SuiteCard, *, device: str = "cpu") -> None:
        super().__init__(card, device=device)
        self.backend = make_backend(card.judges, card.folder, device, f"suite {card.name}, judges")
        self.metric = self.backend.metric
        self.aggregates = self.backend.views

    def prompts(self) -> list[Prompt]:
        """One per line of the card's file; a line that occurs twice is two prompts, with noises of their own."""
        return one_per_line(self.card)

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        """Raises MissingWeights."""
        features = {text: self.backend.text_features(text) for text in dict.fromkeys(p.text for p in prompts)}
        scores = []
        for image, prompt in zip(images, prompts, strict=True):
            try:
                cosine = self.backend.cosine(image, features[prompt.text])
            except StarBenchError:
                raise
            except Exception as error:  # an image that can't be judged has no score, and must not end the run
                if is_out_of_memory(error):
                    raise  # fewer at a time may fit
                scores.append(
                    Score(
                        None,
                        Status.ERROR,
                        {"error": f"{type(error).__name__}: {error}"[:500]},
                    )
                )
                continue
            if math.isfinite(cosine):
                scores.append(Score(self.backend.scale * cosine, detail={"cosine": cosine}))
            else:
                scores.append(Score(None, Status.ERROR, {"error": "the cosine is not finite"}))
        return scores

    def cuts(self, prompts: Sequence[Prompt]) -> list[Cut]:
        return [self.backend.cut(self.metric.name, prompts)]

    def reward_of(self, score: Score) -> float:
        """PickScore / 26 as in Flow-GRPO; (cosine + 1) / 2 for an open_clip model."""
        return self.backend.reward(score.detail["cosine"])

    def assets(self) -> list[Asset]:
        return self.backend.assets(self.card)

    def judges(self) -> dict[str, str]:
        return self.backend.digests()
