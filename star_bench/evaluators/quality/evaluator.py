"""The held-out panel: what a reward may have cost, measured by judges that nothing was trained on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from star_bench.catalogue.cards import parse
from star_bench.catalogue.suites import SuiteCard
from star_bench.errors import MissingWeights, StarBenchError, UsageError
from star_bench.evaluators.base import Cut, Evaluator, Image, Metric, Prompt, Score, Status, one_per_line
from star_bench.evaluators.quality.diversity import Diversity
from star_bench.evaluators.quality.measure import Measure, Picture
from star_bench.evaluators.quality.panel import PanelCard, build
from star_bench.files.digests import digest_of, folder_digest, sha256_of
from star_bench.memory import is_out_of_memory

VERSION = "1"
"""Raise it with any change that can change a number."""


class Quality(Evaluator):
    """The evaluator "quality". value: the first measure's; detail: `measures` (name -> number of this image), and
    `features` (name -> what is kept of it for its prompt)."""

    def __init__(self, card: SuiteCard, *, device: str = "cpu") -> None:
        super().__init__(card, device=device)
        self.settings = parse(PanelCard, card.judges, f"suite {card.name}: judges")
        self.panel = build(self.settings, card, device)
        self.aggregates = tuple(measure.aggregate for measure in self.panel)
        self.metric = self._metric()

    def _metric(self) -> Metric:
        """The panel's; its version is a digest over all measures, whatever is said of their licences."""
        about = [measure.about for measure in self.panel]
        try:
            what = [[row[key] for key in ("kind", "unit", "implementation", "version")] for row in self.measures()]
            version = digest_of(what)[:12]
        except MissingWeights:
            version = "not installed"
        return Metric(
            name=self.settings.name,
            implementation=f"panel of {len(about)}, first {about[0].name}",
            version=version,
            unit=about[0].unit,
            range=(None, None),
            licence="; ".join(f"{each.name}: {each.licence}" for each in about),
            paper="; ".join(f"{each.name}: {each.paper}" for each in about),
        )

    def prompts(self) -> list[Prompt]:
        """One per line of the card's file, or with `repeats` one per prompt."""
        return one_per_line(self.card)

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        """A picture that one measure can't judge has no score. Raises MissingWeights and Refused for the weights."""
        return [self._score(Picture(image, prompt.text)) for image, prompt in zip(images, prompts, strict=True)]

    def _score(self, picture: Picture) -> Score:
        numbers: dict[str, float] = {}
        features: dict[str, str] = {}
        for measure in self.panel:
            name = measure.about.name
            try:
                if isinstance(measure, Diversity):
                    features[name] = measure.features(picture)
                    continue
                numbers[name] = measure.value(picture)
                if not math.isfinite(numbers[name]):
                    raise ValueError(f"the value is {numbers[name]}")
            except StarBenchError:
                raise
            except Exception as error:  # an image that can't be judged has no score, and must not end the run
                if is_out_of_memory(error):
                    raise  # fewer at a time may fit
                return Score(None, Status.ERROR, {"error": f"{name}: {type(error).__name__}: {error}"[:500]})
        return Score(numbers[self.panel[0].about.name], detail={"measures": numbers, "features": features})

    def cuts(self, prompts: Sequence[Prompt]) -> list[Cut]:
        """Each measure's own: they read prompts to different ends."""
        return [cut for measure in self.panel if (cut := measure.cut(prompts))]

    def reward_of(self, score: Score) -> float:
        """Always raises UsageError: what is trained on is not held out any more."""
        raise UsageError(
            f"suite {self.card.name} is a held-out panel and gives no reward", "train on the suite that it watches over"
        )

    @cached_property
    def _digests(self) -> dict[str, str]:
        files = {name: path for measure in self.panel for name, path in measure.files().items()}
        return {name: folder_digest(path) if path.is_dir() else sha256_of(path) for name, path in files.items()}

    def judges(self) -> dict[str, str]:
        """Of each file and folder that a measure reads. All are looked for before the first is read."""
        return dict(self._digests)

    def measures(self) -> list[dict[str, Any]]:
        """Each with what is in `About`, and a version: of its weights and this code. Raises MissingWeights."""
        return [{**dataclasses.asdict(measure.about), "version": self._version(measure)} for measure in self.panel]

    def _version(self, measure: Measure) -> str:
        digests = [self._digests[name] for name in measure.files()]
        return digest_of([VERSION, *digests])[:12] if digests else VERSION
