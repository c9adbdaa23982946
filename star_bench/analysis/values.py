"""What an aggregate of a finished run is made of, prompt by prompt: the stuff that paired statistics work on."""

from __future__ import annotations

from star_bench.errors import Refused
from star_bench.runs.finished import AggregateEntry, RunFiles
from star_bench.statistics.bootstrap import PromptValues, spread

ROUNDING = 1e-6
"""results.json has six decimals."""


def aggregate_of(run: RunFiles, name: str) -> AggregateEntry:
    """Raises Refused where the run has none of this name."""
    found = next((entry for entry in run.results.aggregates if entry.name == name), None)
    if found is None:
        raise Refused(f"{run.folder} has no aggregate named {name!r}", "score the run again with this version")
    return found


def values_of(run: RunFiles, aggregate: AggregateEntry) -> dict[str, PromptValues]:
    """By prompt id. Raises Refused where they are not there, or not those that the aggregate was made of."""
    rows = {
        name: PromptValues(run.prompts[name].tag, values.get(aggregate.name, []))
        for name, values in run.values.items()
        if name in run.prompts
    }
    found = spread(rows.values(), of_tags=aggregate.of_tags)
    made = found.value if found else None
    if (made is None) != (aggregate.value is None) or abs((made or 0) - (aggregate.value or 0)) > ROUNDING:
        raise Refused(
            f"{run.folder / 'values.jsonl'} does not give the {aggregate.title} of its results.json",
            "give the same 'star-bench run' again to summarise it anew",
        )
    return rows
