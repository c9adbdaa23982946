"""Rewards: the suites' own scorers, on pixels, in this process or on workers elsewhere, while the next batch is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from star_bench.catalogue.suites import SuiteCard
from star_bench.errors import StarBenchError, UsageError
from star_bench.evaluators.base import Evaluator, Prompt, Score, check_canaries
from star_bench.runs.engines.base import Scorer
from star_bench.runs.workers import make_evaluator
from star_bench.training.recipe import Reward


@dataclass(frozen=True)
class Asked:
    """A training prompt and the suite, by its place in the recipe, that judges its pictures."""

    prompt: Prompt
    suite: int


@dataclass(frozen=True)
class Judgement:
    """Of one picture: its reward, None where there is none; and with oracle maps the judge's regions (H, W)."""

    reward: float | None
    regions: np.ndarray | None = None


class Rewards:
    """A weighted mix of suites, each with its own training prompts.

    A failed score has no reward: the trainer drops its rollout and counts it. Weights are shares of an epoch's prompts.
    """

    def __init__(self, rewards: Sequence[Reward], evaluators: Sequence[Evaluator], scorer: Scorer) -> None:
        """evaluators: of the rewards' suites, asked for prompts. scorer: an engine's, of `Judges`.

        Raises what finding training prompts and judges raises: MissingWeights, UsageError, Refused.
        """
        self.suites = [reward.suite for reward in rewards]
        weights = np.array([reward.weight for reward in rewards], float)
        self._shares = weights / weights.sum()
        self._scorer = scorer
        self.evaluators = list(evaluators)
        self.prompts: list[list[Prompt]] = [evaluator.training_prompts() for evaluator in self.evaluators]
        self.judges = [evaluator.judges() for evaluator in self.evaluators]

    @property
    def ahead(self) -> int:
        """Batches that may be waited for while another is drawn: one for each worker."""
        return self._scorer.workers

    def check(self) -> None:
        """Judges every suite's canaries. Raises Refused."""
        for evaluator in self.evaluators:
            check_canaries(evaluator)

    def check_count(self, count: int) -> None:
        """Raises UsageError where a suite has fewer different prompts than its share of an epoch's `count` can ask for."""
        for place, (lines, share) in enumerate(zip(self.prompts, self._shares, strict=True)):
            most = math.ceil(share * count - 1e-9)
            self._check_enough(place, len({line.text for line in lines}), most)

    def _check_enough(self, place: int, have: int, wanted: int) -> None:
        if have < wanted:
            raise UsageError(
                f"suite {self.suites[place]!r} has {have} different training prompts and an epoch asks for {wanted}",
                "lower rollout.prompts",
            )

    def prompts_of(self, *, seed: int, epoch: int, count: int) -> list[Asked]:
        """The distinct prompts of an epoch, a function of seed and epoch alone; lines of a file are drawn evenly.

        Raises UsageError where a suite has fewer distinct prompts than its share asks for.
        """
        out: list[Asked] = []
        rng = np.random.default_rng([seed, epoch])
        for place, wanted in enumerate(shares_of(count, self._shares, rng)):
            lines = self.prompts[place]
            chosen: dict[str, Prompt] = {}
            for line in rng.permutation(len(lines)):
                if len(chosen) == wanted:
                    break
                chosen.setdefault(lines[line].text, lines[line])
            self._check_enough(place, len(chosen), wanted)
            out += [Asked(prompt, place) for prompt in chosen.values()]
        return out

    def start(
        self, images: Sequence[np.ndarray | None], asked: Sequence[Asked], note: Callable[[str], None]
    ) -> Callable[[], list[Judgement]]:
        """Hands pictures to the judges, None for one that could not be decoded. Returns how to wait for what they say.

        note: told of a judge that fails. Waiting raises StarBenchError where no picture at all could be judged (missing
        weights, a misjudged canary).
        """
        wait = self._scorer.submit((list(images), list(asked)))

        def judgements() -> list[Judgement]:
            found, notes = wait()
            for said in notes:
                note(said)
            return cast(list[Judgement], found)

        return judgements


@dataclass(frozen=True)
class Judges:
    """Judges pictures, each by its own suite: what works on a batch, here or elsewhere.

    of: what is taken of each suite's scores, as a recipe says it.
    """

    suites: Sequence[str]
    of: Sequence[str]
    evaluators: Sequence[Evaluator]
    find_regions: bool

    def __call__(self, batch: tuple[list[np.ndarray | None], list[Asked]]) -> tuple[list[Judgement], list[str]]:
        """One judgement per picture, and a note for each judge that failed."""
        images, asked = batch
        found, notes = [Judgement(None)] * len(images), []
        for place, evaluator in enumerate(self.evaluators):
            rows = [i for i, a in enumerate(asked) if a.suite == place and images[i] is not None]
            mine = [image for i in rows if (image := images[i]) is not None]
            if not mine:
                continue
            prompts = [asked[i].prompt for i in rows]
            try:
                rewards = [self._reward(place, score) for score in evaluator.score(mine, prompts)]
                regions = evaluator.regions(mine, prompts) if self.find_regions else [None] * len(mine)
            except StarBenchError:
                raise
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything; only its pictures have no reward
                said = f"{type(error).__name__}: {error}"
                notes.append(f"the judge of {self.suites[place]} failed on {len(mine)} pictures ({said})")
                continue
            for i, reward, region in zip(rows, rewards, regions, strict=True):
                found[i] = Judgement(reward, region)
        return found, notes

    def _reward(self, place: int, score: Score) -> float | None:
        if score.value is None:
            return None
        match self.of[place]:
            case "score":
                return score.value
            case "both":
                return (score.value + self.evaluators[place].reward_of(score)) / 2
        return self.evaluators[place].reward_of(score)


@dataclass(frozen=True)
class MakeJudges:
    """Makes judges that first judge their canaries, since they may stand on another machine. Can be pickled.

    Raises Refused, when it is called, for a canary that is misjudged.
    """

    rewards: Sequence[Reward]
    cards: Sequence[SuiteCard]
    device: str
    find_regions: bool
    begin: Callable[[], None] = lambda: None
    """Called before anything is loaded."""

    def __call__(self) -> Judges:
        self.begin()
        evaluators = [make_evaluator(card, self.device) for card in self.cards]
        for evaluator in evaluators:
            check_canaries(evaluator)
        return judges_of(self.rewards, evaluators, find_regions=self.find_regions)


def judges_of(rewards: Sequence[Reward], evaluators: Sequence[Evaluator], *, find_regions: bool = False) -> Judges:
    """evaluators: of the rewards' suites."""
    return Judges([one.suite for one in rewards], [one.of for one in rewards], evaluators, find_regions)


def shares_of(count: int, shares: np.ndarray, rng: np.random.Generator) -> list[int]:
    """`count` split by shares that sum to 1: the whole parts, and what is left to the largest remainders, ties drawn."""
    exact = shares * count
    whole = np.floor(exact + 1e-9).astype(int)
    order = np.lexsort((rng.random(len(shares)), -(exact - whole)))
    whole[order[: count - whole.sum()]] += 1
    return [int(n) for n in whole]
