"""Two runs on the same prompts: their difference with its interval, and tests of it.

A prompt is as hard before as after, so each is compared with itself: what is resampled is its own difference. That
leaves the prompts' difficulty out of the interval, which is why it is narrower than two runs' own intervals suggest.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

from star_bench.statistics.bootstrap import SEED, STANDARD_ERROR, Estimate, PromptValues, Range, estimate

METHOD = f"each prompt's difference; 95 %, Student's t with the {STANDARD_ERROR}"
PERMUTATIONS = 10_000  # chosen here: p near .05 is then known to .004
CHUNK = 1_000  # swaps drawn at a time: 16 MB for 2,000 prompts
EXACT_UP_TO = 12  # prompts that differ: 4,096 swaps are fewer than PERMUTATIONS
TEST = (
    f"two-sided permutation test that swaps both models' images of whole prompts ({PERMUTATIONS:,} swaps, or all of "
    f"them up to {EXACT_UP_TO} prompts that differ; seed {SEED})"
)
BINARY_TEST = "McNemar's test clustered on prompts (Durkalski 2003), chi-squared, 1 degree of freedom"


def changes(before: Mapping[str, PromptValues], after: Mapping[str, PromptValues]) -> list[PromptValues]:
    """after - before of the prompts (by id) that have values in both; a prompt's tag is that of `before`.

    A prompt's difference is that of its means, and weighs as many images as both have.
    """
    out = []
    for old, new in ((before[name], after[name]) for name in before if name in after):
        images = min(len(old.values), len(new.values))
        if images:
            out.append(PromptValues(old.tag, [float(np.mean(new.values) - np.mean(old.values))] * images))
    return out


def paired_difference(
    before: Mapping[str, PromptValues],
    after: Mapping[str, PromptValues],
    *,
    of_tags: bool = False,
    limits: Range = (None, None),
) -> Estimate:
    """The mean of `changes` over images, or with `of_tags` the mean of the tags' means. n_images counts pairs of images.

    limits: the metric's lowest and highest value. Intervals as in `bootstrap.estimate`, on the scale of the values.
    """
    low, high = limits
    bounds = (None, None) if low is None or high is None else (low - high, high - low)
    return estimate(changes(before, after), of_tags=of_tags, limits=bounds, scale="identity")


def permutation_p(found: Sequence[PromptValues], *, of_tags: bool = False) -> float | None:
    """Two-sided p of no difference, from what `changes` gives; None without any prompt.

    Under the null hypothesis it is chance which model a prompt's images came from, so all images of a prompt are swapped
    or none: swapping single images would take a model that is better at some prompts and worse at others for noise.
    """
    if not found:
        return None
    counts: Counter[str] = Counter()
    for prompt in found:
        counts[prompt.tag] += len(prompt.values)
    share = {tag: 1 / len(counts) if of_tags else n / counts.total() for tag, n in counts.items()}
    weighed = np.array([share[p.tag] * float(np.sum(p.values)) / counts[p.tag] for p in found])
    weighed = weighed[weighed != 0]
    if len(weighed) <= EXACT_UP_TO:
        signs = np.array(list(itertools.product((1, -1), repeat=len(weighed))))
        return float((np.abs(signs @ weighed) >= abs(weighed.sum()) - 1e-12).mean())
    rng = np.random.default_rng(SEED)
    extreme = 0
    for _ in range(PERMUTATIONS // CHUNK):
        signs = rng.integers(0, 2, size=(CHUNK, len(weighed)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ weighed) >= abs(weighed.sum()) - 1e-12).sum())
    return (1 + extreme) / (1 + PERMUTATIONS)  # the data itself is one of the swaps (Phipson and Smyth 2010)


def mcnemar_p(before: Mapping[str, PromptValues], after: Mapping[str, PromptValues]) -> float | None:
    """Two-sided p of as many images turned right as wrong, for values that are 0 or 1 and paired by their order.

    Images of a prompt turn together, so prompts are what is counted: Durkalski, Palesch, Lipsitz and Rust 2003,
    Statistics in Medicine 22. None where nothing turned. Raises ValueError for any other value, and for a prompt with
    unequally many images.
    """
    shares = []
    for name in before:
        if name in after and len(before[name].values):
            old, new = (np.asarray(side[name].values, float) for side in (before, after))
            if len(old) != len(new) or not np.isin([*old, *new], (0, 1)).all():
                raise ValueError(f"prompt {name!r} has no pairs of right or wrong")
            shares.append((new - old).mean())
    squares = float(np.square(shares).sum())
    return float(special.chdtrc(1, np.sum(shares) ** 2 / squares)) if squares else None
