"""How far a measured number may lie from a published one before chance no longer explains it. Reasons: docs/replicate.md."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from star_bench.statistics.bootstrap import LEVEL, PromptValues

SAME = "the same noise: rounding and tolerance alone"
WITHIN = "sqrt(2) x the 95 % half width of the noise within prompts (Student's t), rounding, tolerance"
WHOLE = (
    "sqrt(2) x half of the run's own 95 % interval (on average too wide: one value per prompt does not show its noise), "
    "rounding, tolerance"
)
SIX_DECIMALS = 1e-6
"""What a run's results are rounded to."""


@dataclass(frozen=True)
class Window:
    """Two-sided, around the published number, in its unit. basis says how it was made.

    noise: of two draws of noise on the same prompts, the published one and ours; 0 where they are the same draw.
    rounding: half a unit of the last printed decimal. tolerance: the row's own.
    """

    noise: float
    rounding: float
    tolerance: float
    basis: str

    @property
    def half(self) -> float:
        """A difference of at most so much is within the window."""
        return self.noise + self.rounding + self.tolerance

    def holds(self, difference: float) -> bool:
        return abs(difference) <= self.half + SIX_DECIMALS


def within_prompts(prompts: Sequence[PromptValues], *, of_tags: bool) -> float | None:
    """The 95 % half width of a run's number over new draws of noise on the same prompts; of_tags as in `estimate`.

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
        return 0.0
    degrees = variances.sum() ** 2 / (variances**2 / (counts - 1)).sum()
    return float(special.stdtrit(degrees, (1 + LEVEL) / 2) * math.sqrt(variances.sum()))
