"""A run's noise: how its number would move over new draws on the same prompts. What a number that somebody published for
these prompts may differ by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from star_bench.statistics.bootstrap import LEVEL, PromptValues

TWO_DRAWS = 2**0.5
"""A difference of two draws, the published one and ours, has so many times the noise of one."""

WITHIN = "the standard error of images within their prompts (degrees of freedom by Satterthwaite's rule)"


@dataclass(frozen=True)
class Noise:
    """Of a mean. degrees: of freedom, infinite where there is no noise."""

    standard_error: float
    degrees: float

    def quantile(self, probability: float) -> float:
        """Where Student's t has this much below it, in standard errors."""
        return float(special.stdtrit(self.degrees, probability))

    @property
    def half_width(self) -> float:
        """Of the 95 % interval."""
        return self.quantile((1 + LEVEL) / 2) * self.standard_error


def within_prompts(prompts: Sequence[PromptValues], *, of_tags: bool) -> Noise | None:
    """The noise of a run's number on these very prompts; of_tags as in `bootstrap.estimate`.

    The prompts are given, so how they differ among each other has no part in it: only how the images of one prompt do.
    Degrees of freedom by Satterthwaite's rule. None where a prompt has fewer than two values, which show no noise.
    """
    if not prompts or any(len(prompt.values) < 2 for prompt in prompts):
        return None
    of_tag: Counter[str] = Counter()
    for prompt in prompts:
        of_tag[prompt.tag] += len(prompt.values)
    counts = np.array([len(prompt.values) for prompt in prompts])
    shares = counts / ([of_tag[prompt.tag] * len(of_tag) for prompt in prompts] if of_tags else of_tag.total())
    variances = shares**2 * np.array([np.var(prompt.values, ddof=1) for prompt in prompts]) / counts
    if not variances.any():
        return Noise(0.0, math.inf)
    degrees = variances.sum() ** 2 / (variances**2 / (counts - 1)).sum()
    return Noise(math.sqrt(variances.sum()), float(degrees))
