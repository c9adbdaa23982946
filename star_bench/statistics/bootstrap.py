"""Intervals by a bootstrap clustered on prompts and stratified by tag.

A prompt's images share its difficulty, so images are not independent: whole prompts are resampled, within each tag,
since a suite fixes how many prompts a tag has. Percentile method (Efron and Tibshirani 1993, ch. 13).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000  # chosen here: the end points' own error is then about 2 % of the interval's width
SEED = 0
LEVEL = 0.95
METHOD = f"95 % bootstrap over prompts within tags, percentile, {RESAMPLES} resamples, seed {SEED}"


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


def estimate(prompts: Iterable[PromptValues], *, of_tags: bool = False) -> Estimate:
    """The mean over images, or with `of_tags` the unweighted mean of the tags' means, with its interval."""
    groups: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for prompt in prompts:
        if len(prompt.values):
            groups[prompt.tag].append((float(np.sum(prompt.values)), len(prompt.values)))
    n_prompts = sum(len(group) for group in groups.values())
    n_images = sum(count for group in groups.values() for _, count in group)
    if not n_prompts:
        return Estimate(None, None, None, 0, 0)
    rng = np.random.default_rng(SEED)
    sums, counts = [], []  # per tag: (1 + RESAMPLES,), the first entry is the data itself
    for tag in sorted(groups):
        table = np.array(groups[tag], float)
        picks = rng.integers(len(table), size=(RESAMPLES, len(table)))
        drawn = np.concatenate([table.sum(0)[None], table[picks].sum(1)])
        sums.append(drawn[:, 0])
        counts.append(drawn[:, 1])
    if of_tags:
        values = np.mean([s / c for s, c in zip(sums, counts, strict=True)], axis=0)
    else:
        values = np.sum(sums, axis=0) / np.sum(counts, axis=0)
    if min(len(group) for group in groups.values()) < 2:
        return Estimate(float(values[0]), None, None, n_images, n_prompts)
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values[0]), float(low), float(high), n_images, n_prompts)
