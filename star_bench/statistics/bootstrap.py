"""Intervals by a bootstrap clustered on prompts and stratified by tag.

A prompt's images share its difficulty, so images are not independent: whole prompts are resampled, within each tag,
since a suite fixes how many prompts a tag has. With n prompts in a tag n - 1 are drawn, which makes the standard error
unbiased however few there are (Rao and Wu 1988, JASA 83, section 2). docs/design/statistics.md has what was simulated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import special  # and not scipy.stats, which takes half a second to load

RESAMPLES = 2000  # chosen here: the standard error's own error is then 1.6 %
SEED = 0
LEVEL = 0.95
STANDARD_ERROR = f"standard error by a bootstrap over prompts within tags ({RESAMPLES} resamples, seed {SEED})"
METHOD = f"95 %, Student's t with the {STANDARD_ERROR}, on the logit scale for a metric with two ends"

Range = tuple[float | None, float | None]


@dataclass(frozen=True)
class PromptValues:
    """What one prompt contributes: its tag and the values of its images."""

    tag: str
    values: Sequence[float]


@dataclass(frozen=True)
class Estimate:
    """value with its interval [low, high]; all None where nothing has a value.

    No interval where a tag has a single prompt: resampling one prompt would always find that prompt, and the interval
    would be too narrow.
    """

    value: float | None
    low: float | None
    high: float | None
    n_images: int
    n_prompts: int


@dataclass(frozen=True)
class Spread:
    """A mean and how far it would be from another draw of prompts and images.

    degrees: of freedom, by Satterthwaite's rule over the tags (Biometrics Bulletin 2, 1946); infinite where no prompt
    differs from another of its tag. fewest: prompts in the smallest tag. tags: their number.
    """

    value: float
    standard_error: float
    degrees: float
    fewest: int
    tags: int
    n_images: int
    n_prompts: int

    def quantile(self, probability: float) -> float:
        """Where Student's t has this much below it, in standard errors."""
        return float(special.stdtrit(self.degrees, probability))


def spread(prompts: Iterable[PromptValues], *, of_tags: bool = False) -> Spread | None:
    """Of the mean over images, or with `of_tags` of the unweighted mean of the tags' means. None without any value."""
    groups: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for prompt in prompts:
        if len(prompt.values):
            groups[prompt.tag].append((float(np.sum(prompt.values)), len(prompt.values)))
    if not groups:
        return None
    tables = [np.array(groups[tag], float) for tag in sorted(groups)]  # each (prompts, 2): sum of values, images
    value, error, degrees = _bootstrap(tables, of_tags)
    return Spread(
        value=value,
        standard_error=error,
        degrees=degrees,
        fewest=min(len(table) for table in tables),
        tags=len(tables),
        n_images=int(sum(table[:, 1].sum() for table in tables)),
        n_prompts=sum(len(table) for table in tables),
    )


def _bootstrap(tables: Sequence[np.ndarray], of_tags: bool) -> tuple[float, float, float]:
    """(value, standard error, degrees of freedom); the error is 0 where a tag has a single prompt and says nothing."""
    totals = []  # per tag: (1 + RESAMPLES, 2), the first row is the data itself
    for tag, table in enumerate(tables):
        n = len(table)
        drawn = _draws(tag, n).astype(float) @ table * n / max(n - 1, 1)
        totals.append(np.concatenate([table.sum(0)[None], drawn]))
    if of_tags:
        values = np.mean([total[:, 0] / total[:, 1] for total in totals], axis=0)
    else:
        values = np.sum([total[:, 0] for total in totals], axis=0) / np.sum([t[:, 1] for t in totals], axis=0)
    value = float(values[0])
    variances = _variances(tables, value, of_tags)
    if not any(variances):
        return value, 0.0, float("inf")
    parts = sum(v * v / max(len(table) - 1, 1) for v, table in zip(variances, tables, strict=True))
    return value, float(values[1:].std(ddof=1)), float(sum(variances) ** 2 / parts)


@lru_cache(maxsize=64)
def _draws(tag: int, n: int) -> np.ndarray:
    """(RESAMPLES, n): how often each of a tag's n prompts is drawn, n - 1 in all; kept, since every measure of a run asks
    for the same.
    """
    picks = np.random.default_rng([SEED, tag]).integers(n, size=(RESAMPLES, max(n - 1, 1)))
    flat = (picks + n * np.arange(RESAMPLES)[:, None]).ravel()
    return np.bincount(flat, minlength=RESAMPLES * n).reshape(RESAMPLES, n).astype(np.uint16)


def _variances(tables: Sequence[np.ndarray], value: float, of_tags: bool) -> list[float]:
    """What each tag adds to the variance, to first order; 0 for a tag whose prompts are all alike."""
    images = sum(table[:, 1].sum() for table in tables)
    out = []
    for table in tables:
        own = table[:, 1].sum()
        share, mean = (1 / len(tables), table[:, 0].sum() / own) if of_tags else (own / images, value)
        residuals = table[:, 0] - mean * table[:, 1]
        alike = len(table) < 2 or np.ptp(residuals) < 1e-12 * max(1.0, float(np.abs(table).max()))
        out.append(0.0 if alike else float((share / own) ** 2 * len(table) * residuals.var(ddof=1)))
    return out


def _unseen(found: Spread) -> float:
    """The largest share of prompts unlike all that were seen which luck could still have hidden (Clopper and Pearson
    1934 for n of n), as if every tag had as few prompts as the smallest.
    """
    return float(1 - ((1 - LEVEL) / 2) ** (1 / (found.fewest * found.tags)))


def estimate(
    prompts: Iterable[PromptValues],
    *,
    of_tags: bool = False,
    limits: Range = (None, None),
    scale: Literal["logit", "identity"] = "logit",
) -> Estimate:
    """The mean over images, or with `of_tags` the unweighted mean of the tags' means, with its interval.

    limits: the lowest and the highest that a value can be. Where both are known the interval stays within them; and
    where no prompt differs from another of its tag, as at 100 %, it reaches as far as prompts unlike these could
    have been missed, instead of having no width. scale: on which the interval is symmetric; without both limits it is
    always the identity. Raises ValueError for a mean outside the limits.
    """
    found = spread(prompts, of_tags=of_tags)
    if found is None:
        return Estimate(None, None, None, 0, 0)
    low, high = _interval(found, limits, scale) if found.fewest > 1 else (None, None)
    return Estimate(found.value, low, high, found.n_images, found.n_prompts)


def _interval(found: Spread, limits: Range, scale: str) -> tuple[float, float]:
    value, reach = found.value, found.quantile((1 + LEVEL) / 2) * found.standard_error
    low, high = limits
    if low is None or high is None:
        return value - reach, value + reach
    if not low - 1e-9 <= value <= high + 1e-9:
        raise ValueError(f"a mean of {value} is outside its metric's range of {low} to {high}")
    share = (value - low) / (high - low)
    if not found.standard_error or not 0 < share < 1:
        hidden = _unseen(found)
        return value - hidden * (value - low), value + hidden * (high - value)
    if scale == "identity":
        return max(low, value - reach), min(high, value + reach)
    logit, width = special.logit(share), reach / (high - low) / (share * (1 - share))
    ends = special.expit([logit - width, logit + width])
    return float(low + (high - low) * ends[0]), float(low + (high - low) * ends[1])
