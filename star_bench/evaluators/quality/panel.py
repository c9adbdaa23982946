"""The measures that a card's `judges` list, in their order, with the CLIPs that they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field

from star_bench.catalogue.cards import Strict, did_you_mean, parse
from star_bench.catalogue.suites import NOT_STATED, SuiteCard
from star_bench.errors import UsageError
from star_bench.evaluators.quality.aesthetic import Aesthetic, AestheticCard
from star_bench.evaluators.quality.clip import Clip, ClipCard
from star_bench.evaluators.quality.clip_score import ClipScore, ClipScoreCard
from star_bench.evaluators.quality.descriptions import Contrast, DescriptionCard, Sharpness
from star_bench.evaluators.quality.diversity import Diversity, DiversityCard
from star_bench.evaluators.quality.hps import Hps, HpsCard
from star_bench.evaluators.quality.image_reward import ImageReward, ImageRewardCard
from star_bench.evaluators.quality.measure import ImageMeasure

KINDS = ("clip_score", "aesthetic", "hps", "image_reward", "sharpness", "contrast", "diversity")


class PanelCard(Strict):
    """A card's `judges`. A measure's `name` is also its aggregate's; the first measure is the suite's score."""

    name: str
    """The metric's: a panel with other measures is another metric."""
    clips: dict[str, ClipCard] = Field(default_factory=dict)
    """By the name under which measures ask for them."""
    measures: list[dict[str, Any]] = Field(min_length=1)
    """Each with its `kind`, one of KINDS, and that kind's own keys."""


def build(panel: PanelCard, card: SuiteCard, device: str) -> list[ImageMeasure | Diversity]:
    """A clip's or measure's licence is that of the card's `judge_weights` of the same name.

    Raises UsageError for an unknown kind or clip, a name that stands twice, and a first measure without a value per
    image.
    """
    where = f"suite {card.name}: judges"
    licences = {weights.name: weights.licence for weights in card.judge_weights}

    def licence(name: str) -> str:
        return licences.get(name, NOT_STATED)

    clips = {name: Clip(name, clip, licence(name), device) for name, clip in panel.clips.items()}
    measures = [_measure(row, clips, licence, device, f"{where}.measures.{i}") for i, row in enumerate(panel.measures)]
    names = [*clips, *(measure.about.name for measure in measures)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"{where}: the name {twice!r} stands there twice", "give each measure and clip a name of its own"
        )
    if isinstance(measures[0], Diversity):
        first = measures[0].about.name
        raise UsageError(f"{where}: {first!r} comes first and says nothing of single images", "put it further down")
    return measures


def _measure(
    row: dict[str, Any], clips: dict[str, Clip], licence: Callable[[str], str], device: str, where: str
) -> ImageMeasure | Diversity:
    def clip(name: str) -> Clip:
        if name not in clips:
            raise UsageError(f"{where}: there is no clip named {name!r}", did_you_mean(name, clips))
        return clips[name]

    match row.get("kind"):
        case "clip_score":
            by_clip = parse(ClipScoreCard, row, where)
            return ClipScore(by_clip, clip(by_clip.clip))
        case "aesthetic":
            rated = parse(AestheticCard, row, where)
            return Aesthetic(rated, clip(rated.clip), licence(rated.name))
        case "hps":
            preferred = parse(HpsCard, row, where)
            return Hps(preferred, licence(preferred.name), device)
        case "image_reward":
            rewarded = parse(ImageRewardCard, row, where)
            return ImageReward(rewarded, licence(rewarded.name), device)
        case "sharpness":
            return Sharpness(parse(DescriptionCard, row, where))
        case "contrast":
            return Contrast(parse(DescriptionCard, row, where))
        case "diversity":
            spread = parse(DiversityCard, row, where)
            return Diversity(spread, clip(spread.clip))
    raise UsageError(f"{where}: unknown kind {row.get('kind')!r}", did_you_mean(str(row.get("kind")), KINDS))
