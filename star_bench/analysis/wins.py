"""Whose picture scores higher? Picture against picture of the same prompt and noise, as PickScore's authors compare models.

A view of any suite whose scores tell pictures apart; for PickScore see arXiv:2305.01569, section 5.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from star_bench.analysis.comparable import check_comparable
from star_bench.runs.finished import read_run
from star_bench.runs.references import find
from star_bench.statistics.bootstrap import METHOD, PromptValues, estimate


def win_rate(first: Path, second: Path) -> dict[str, Any]:
    """The share of pictures in which `second` scores higher; a tie counts half. With its interval and what was compared.

    Raises what `read_run` and `check_comparable` raise.
    """
    a, b = (read_run(find(path)) for path in (first, second))
    check_comparable(a, b)
    duels: dict[str, list[float]] = {}
    for mine, yours in zip(a.images, b.images, strict=True):
        assert mine.value is not None and yours.value is not None  # comparable runs are complete
        won = 0.5 if mine.value == yours.value else float(yours.value > mine.value)
        duels.setdefault(mine.prompt.id, []).append(won)
    rows = (PromptValues(a.prompts[name].tag, values) for name, values in duels.items())
    found = estimate(rows, limits=(0, 1))
    return {
        "measure": f"pairwise win rate of {b.results.model.name} over {a.results.model.name}",
        **asdict(found),
        "ties": sum(value == 0.5 for values in duels.values() for value in values),
        "metric": a.results.metric.identity,
        "interval": METHOD,
    }
