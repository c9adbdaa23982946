"""How small a difference would be seen, and how many prompts and images it takes to see a given one.

An image's difference between two models has two parts: what the prompt does to it, which more images of the prompt do
not average out, and luck within the prompt, which they do. Both are estimated from two runs of the same prompts.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from star_bench.errors import UsageError
from star_bench.statistics.bootstrap import PromptValues

POWER = 0.8  # the convention (Cohen 1988)
ALPHA = 0.05
METHOD = "Student's t for the mean of prompts' differences; variance between and within prompts by analysis of variance"


@dataclass(frozen=True)
class Design:
    """A suite's prompts and how two models' images differ on them.

    between, within: variances of a pair's difference, squared units of the metric. prompts: how many each tag has.
    """

    between: float
    within: float
    prompts: Mapping[str, int]
    of_tags: bool

    @property
    def n_prompts(self) -> int:
        return sum(self.prompts.values())

    def scaled(self, factor: float) -> Design:
        """The same suite with `factor` times as many prompts in each tag, at least two."""
        return replace(self, prompts={tag: max(2, round(n * factor)) for tag, n in self.prompts.items()})

    def standard_error(self, samples: int) -> float:
        """Of the mean difference, with so many images per prompt."""
        one = self.between + self.within / samples
        if self.of_tags:
            return math.sqrt(sum(one / n for n in self.prompts.values())) / len(self.prompts)
        return math.sqrt(one / self.n_prompts)

    def detectable(self, samples: int, *, power: float = POWER, alpha: float = ALPHA, sides: int = 2) -> float:
        """The smallest true difference that a test at `alpha` finds with probability `power`, in units of the metric."""
        degrees = self.n_prompts - len(self.prompts)
        quantiles = special.stdtrit(degrees, [1 - alpha / sides, power])
        return float(quantiles.sum()) * self.standard_error(samples)

    def prompts_needed(
        self, difference: float, samples: int, *, power: float = POWER, alpha: float = ALPHA, sides: int = 2
    ) -> int:
        """The fewest prompts, in the suite's own proportion of tags, by which `difference` is detectable.

        Raises UsageError for a difference that is not above 0.
        """
        if difference <= 0:
            raise UsageError(f"{difference:g} is no difference to look for", "give one above 0")
        low, high = 0.0, 1.0
        while self.scaled(high).detectable(samples, power=power, alpha=alpha, sides=sides) > difference:
            high *= 2
        while self.n_prompts * (high - low) > 0.5:
            middle = (low + high) / 2
            enough = self.scaled(middle).detectable(samples, power=power, alpha=alpha, sides=sides) <= difference
            low, high = (low, middle) if enough else (middle, high)
        return self.scaled(high).n_prompts


def _variances(rows: Sequence[tuple[str, np.ndarray]]) -> tuple[float, float]:
    """(between prompts of a tag, within prompts), never negative. Raises UsageError for fewer than two images of a prompt,
    or two prompts of a tag, throughout.
    """
    within_df = sum(len(values) - 1 for _, values in rows)
    tags: dict[str, list[float]] = defaultdict(list)
    for tag, values in rows:
        tags[tag].append(float(values.mean()))
    between_df = sum(len(means) - 1 for means in tags.values())
    if not within_df or not between_df:
        what = "prompts of a tag" if within_df else "images of a prompt"
        raise UsageError(f"without two {what} nothing is known of how they differ", "give runs with more of them")
    within = sum(float(((values - values.mean()) ** 2).sum()) for _, values in rows) / within_df
    of_means = sum(float(((np.array(m) - np.mean(m)) ** 2).sum()) for m in tags.values()) / between_df
    harmonic = len(rows) / sum(1 / len(values) for _, values in rows)
    return max(0.0, of_means - within / harmonic), within


def design(
    before: Mapping[str, PromptValues], after: Mapping[str, PromptValues] | None, *, of_tags: bool = False
) -> Design:
    """From two runs whose images are paired by their order, or from one run alone.

    With one run the other model is taken to be as lucky as this one, on its own, and equally good on every prompt: real
    pairs share noise, which helps, and answer prompts differently, which hurts. Raises UsageError where the runs have
    too few prompts or images.
    """
    if after is None:
        rows = [(p.tag, np.asarray(p.values, float)) for p in before.values() if len(p.values)]
        _, within = _variances(rows)
        between, within = 0.0, 2 * within
    else:
        shared = [(before[name], after[name]) for name in before if name in after]
        pairs = [(old, new) for old, new in shared if len(old.values) and len(old.values) == len(new.values)]
        rows = [(old.tag, np.subtract(new.values, old.values, dtype=float)) for old, new in pairs]
        between, within = _variances(rows)
    return Design(between, within, Counter(tag for tag, _ in rows), of_tags)
