"""What a suite's prompts can tell apart: the table of `star-bench power`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from star_bench.analysis.comparable import check_comparable
from star_bench.analysis.values import aggregate_of, values_of
from star_bench.runs.finished import RunFiles
from star_bench.statistics.power import ALPHA, METHOD, POWER, design

SAMPLES = (1, 2, 4, 8, 16)
ONE_RUN = (
    "from one run: as if another model were as good on every prompt and drew its own noise; a pair of runs says more"
)


def power_table(
    run: RunFiles,
    other: RunFiles | None,
    *,
    effect: float | None,
    power: float = POWER,
    samples: Sequence[int] = SAMPLES,
) -> dict[str, Any]:
    """For each number of images per prompt: the smallest detectable difference of the headline with the run's prompts, and
    the prompts that `effect` takes.

    Raises what `check_comparable` and `power.design` raise.
    """
    headline = run.results.aggregates[0]
    if other is not None:
        check_comparable(run, other)
    after = None if other is None else values_of(other, aggregate_of(other, headline.name))
    found = design(values_of(run, headline), after, of_tags=headline.of_tags)
    rows = [
        {
            "images_per_prompt": n,
            "detectable": round(found.detectable(n, power=power), 4),
            **({"prompts_needed": found.prompts_needed(effect, n, power=power)} if effect is not None else {}),
        }
        for n in samples
    ]
    return {
        "measure": f"{headline.title} of {run.results.suite}",
        "metric": run.results.metric.identity,
        "prompts": found.n_prompts,
        "effect": effect,
        "variance_between_prompts": found.between,
        "variance_within_prompts": found.within,
        "rows": rows,
        "method": f"{METHOD}; two-sided at {ALPHA:g}, power {power:g}" + ("" if other else f"; {ONE_RUN}"),
    }
