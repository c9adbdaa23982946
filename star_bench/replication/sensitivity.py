"""What a number owes to its settings: a grid of steps, guidance, size and seed around a row's own run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from star_bench.replication.reading import Reading
from star_bench.statistics.bootstrap import Estimate
from star_bench.statistics.paired import paired_difference


@dataclass(frozen=True)
class Cell:
    """One run of the grid. settings: of the grid's axes. difference: from the row's own run, prompt by prompt; zero
    without doubt where it is that run. problem: why there is no number."""

    settings: dict[str, Any]
    own: bool = False
    value: float | None = None
    low: float | None = None
    high: float | None = None
    difference: Estimate | None = None
    run: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class SeedSpread:
    """The same settings with other noise. deviation: standard deviation over seeds, n - 1."""

    settings: dict[str, Any]
    seeds: tuple[int, ...]
    mean: float
    deviation: float
    lowest: float
    highest: float


def compare(settings: dict[str, Any], own: Reading, cell: Reading) -> Cell:
    """A cell's number beside that of the row's own run."""
    if cell.problem:
        return Cell(settings, run=str(cell.folder), problem=cell.problem)
    entry = cell.entry
    difference = paired_difference(own.prompts, cell.prompts, of_tags=own.of_tags)
    is_own = cell.folder == own.folder
    return Cell(settings, is_own, entry.value, entry.low, entry.high, difference, str(cell.folder))


def over_seeds(cells: Sequence[Cell]) -> tuple[SeedSpread, ...]:
    """Of every setting that has at least two seeds, all of them with a number."""
    groups: dict[tuple[tuple[str, Any], ...], dict[int, float | None]] = {}
    for cell in cells:
        if "seed" in cell.settings:
            rest = tuple((name, value) for name, value in cell.settings.items() if name != "seed")
            groups.setdefault(rest, {})[cell.settings["seed"]] = cell.value
    out = []
    for rest, of_seed in groups.items():
        values = [value for value in of_seed.values() if value is not None]
        if len(values) == len(of_seed) > 1:
            out.append(
                SeedSpread(
                    dict(rest),
                    tuple(of_seed),
                    statistics.fmean(values),
                    statistics.stdev(values),
                    min(values),
                    max(values),
                )
            )
    return tuple(out)
