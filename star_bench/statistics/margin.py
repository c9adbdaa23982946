"""Has a checkpoint become worse, or another? Tests of a paired difference against a margin."""

from __future__ import annotations

from collections.abc import Sequence

from scipy import special

from star_bench.statistics.bootstrap import PromptValues, Range, spread
from star_bench.statistics.rule import Rule
from star_bench.statistics.within import Noise


def p_value(
    rule: Rule,
    changes: Sequence[PromptValues],
    *,
    margin: float,
    of_tags: bool = False,
    limits: Range = (None, None),
    identical: bool = False,
    noise: Noise | None = None,
) -> float | None:
    """One-sided p of the rule's null hypothesis: for NO_REGRESSION that the mean of `changes` is at least -margin, for
    NON_INFERIOR that it is at most -margin. Student's t, clustered and stratified as `bootstrap.spread`.

    changes: after - before, prompt by prompt (`paired.changes`). limits: the lowest and the highest that a change can be.
    identical: both runs are of the same pictures, so a difference of nothing is no luck. noise: of the mean, where it is
    not that of drawing other prompts. None where nothing can be said: no prompts, or without `noise` a tag with a single
    one.
    """
    found = spread(changes, of_tags=of_tags)
    if found is None or (noise is None and found.fewest < 2):
        return None
    above, chance = found.value + margin, noise or found
    if chance.standard_error:
        t = above / chance.standard_error
        return float(special.stdtr(chance.degrees, t if rule is Rule.NO_REGRESSION else -t))
    if rule is Rule.NO_REGRESSION:
        return 1.0 if above >= -1e-12 else 0.0
    if above <= 1e-12 and not (identical and above >= -1e-12):
        return 1.0
    if identical:
        return 0.0
    return _missed(found.value, above, limits) ** (found.fewest * found.tags)


def two_sided_p(changes: Sequence[PromptValues], *, margin: float = 0.0, of_tags: bool = False) -> float | None:
    """p of a mean of `changes` within margin of 0, either way; None as in `p_value`."""
    turned = [PromptValues(prompt.tag, [-value for value in prompt.values]) for prompt in changes]
    fell, rose = (p_value(Rule.NO_REGRESSION, side, margin=margin, of_tags=of_tags) for side in (changes, turned))
    return None if fell is None or rose is None else min(1.0, 2 * min(fell, rose))


def _missed(value: float, above: float, limits: Range) -> float:
    """No prompt differed from another. The share of prompts that would have to be unlike them, and lose all they can, to
    bring the mean down by `above`: the chance that one prompt is not of those.
    """
    lowest = limits[0]
    return 1.0 if lowest is None or value <= lowest else 1.0 - min(1.0, above / (value - lowest))
