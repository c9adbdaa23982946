"""Which runs may be ranked together, their ranks, and how far these can be trusted.

Runs stand in one table when `compare` would put them side by side: only the model differs. Whatever else differs makes
another table, named by it. A run that lacks scores is shown and never ranked.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from star_bench.analysis.comparable import Difference, Part, differences
from star_bench.analysis.entries import Entry, LeftOut, read_entries
from star_bench.analysis.identity import identity_of, measure_of
from star_bench.analysis.values import aggregate_of, values_of
from star_bench.errors import Refused
from star_bench.runs.finished import (
    AggregateEntry,
    PromptRow,
    Results,
    RunFiles,
    ValuesRow,
    read_records,
)
from star_bench.statistics import multiple, paired
from star_bench.statistics.bootstrap import PromptValues
from star_bench.statistics.paired import changes, permutation_p

ALPHA = 0.05  # chosen here, as in compare: of p corrected over a table's tests
TESTS = 10  # chosen here: they take a fiftieth of a second each
RANGES = (
    "the ranks that a run's own 95 % interval leaves open: above it stand only the runs whose interval lies wholly above "
    "its own, below it those whose lies wholly below; not corrected for how many there are"
)
TEST = f"against the table's first: {paired.TEST}; corrected over the table's tests by {multiple.METHOD}"


Prompts = dict[str, dict[str, PromptRow]]
"""sha256 of a prompts.jsonl -> its rows by prompt id: equal files are read once."""


@dataclass(frozen=True)
class Row:
    """A run in a table. rank: by the headline, None for one that is not ranked. ranks: (best, worst) that its interval
    leaves open; None without an interval.

    p, p_holm: of no difference from the table's first; None where it wasn't tested, and untested says why if it was to be.
    """

    entry: Entry
    rank: int | None = None
    ranks: tuple[int, int] | None = None
    p: float | None = None
    p_holm: float | None = None
    untested: str = ""

    @property
    def results(self) -> Results:
        return self.entry.results

    @property
    def headline(self) -> AggregateEntry:
        return self.results.aggregates[0]


@dataclass(frozen=True)
class Table:
    """Runs that differ in nothing but the model, the best first. rest: those that lack scores. differs: what sets them
    apart from the first table's; empty for that one. ordered: whether higher is better, so that ranks mean something."""

    rows: tuple[Row, ...]
    rest: tuple[Row, ...]
    differs: tuple[Difference, ...]
    ordered: bool

    @property
    def all_rows(self) -> tuple[Row, ...]:
        return self.rows + self.rest

    @property
    def entry(self) -> Entry:
        """One of the runs, for what all of them share."""
        return self.all_rows[0].entry

    @property
    def results(self) -> Results:
        return self.entry.results

    @property
    def identity(self) -> str:
        """Of the metric that the headline is in."""
        return identity_of(self.results, self.results.aggregates[0].name)

    @property
    def tags(self) -> list[str]:
        """In the suite's order."""
        return list(dict.fromkeys(tag.tag for row in self.all_rows for tag in row.results.tags))

    @property
    def title(self) -> str:
        """What sets it apart, in words; empty for the first."""
        return "; ".join(f"{each.field} {each.second} instead of {each.first}" for each in self.differs)


@dataclass(frozen=True)
class Board:
    """All runs of a suite."""

    suite: str
    tables: tuple[Table, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def title(self) -> str:
        return self.tables[0].results.title if self.tables else self.suite


def leaderboard(runs: Path, suite: str, *, tests: int = TESTS) -> Board:
    """tests: how many of each table's first runs are tested, in pairs with its very first. Raises what `read_entries`
    raises."""
    entries, left_out = read_entries(runs, suite)
    groups: dict[str, list[list[Entry]]] = defaultdict(list)
    known: Prompts = {}
    for entry in entries:
        try:
            _read_prompts(entry, known)
        except Refused as error:
            left_out.append(LeftOut(entry.folder, f"broken: {error.problem}"))
        else:
            _join(entry, groups[_setting(entry)], known)
    tables = sorted((_table(group) for near in groups.values() for group in near), key=_prominence)
    first = tables[0].entry if tables else None
    named = [replace(table, differs=_apart(first, table.entry, known)) for table in tables if first]
    return Board(suite, tuple(_tested(table, tests, known) for table in named), tuple(left_out))


def _setting(entry: Entry) -> str:
    """What a number depends on but the model and the judges' settings: runs of one table have the same."""
    results = entry.results
    return json.dumps(
        [
            results.metric.identity,
            [[m.name, m.unit, m.implementation, m.version] for m in results.measures],
            results.judges,
            results.generation,
            results.protocol,
            results.counts.planned,
            entry.prompts_sha256,
            results.interval,
        ],
        sort_keys=True,
    )


def _join(entry: Entry, groups: list[list[Entry]], known: Prompts) -> None:
    """Adds a run to the group of which nothing sets it apart; cards that are equal need no closer look."""
    for group in groups:
        if group[0].suite == entry.suite or not _apart(group[0], entry, known):
            group.append(entry)
            return
    groups.append([entry])


def _apart(first: Entry, other: Entry, known: Prompts) -> tuple[Difference, ...]:
    """What `compare` would refuse these two for, but for lacking scores; and intervals that were not made in one way."""
    a, b = (_run_files(entry, known) for entry in (first, other))
    found = [each for each in differences(a, b) if each.part is not Part.COMPLETENESS]
    ways = first.results.interval, other.results.interval
    if ways[0] != ways[1]:
        found.append(Difference(Part.METRIC, "intervals", *ways, "they differ in how intervals were made"))
    return tuple(found)


def _prominence(table: Table) -> tuple[bool, bool, int, int, str]:
    """Whole suites before subsets, our own pictures before others', then what has more runs."""
    results = table.results
    foreign = results.generation == "foreign"
    return results.subset is not None, foreign, -len(table.rows), -len(table.rest), results.digest


def _table(entries: Sequence[Entry]) -> Table:
    rows = sorted(
        (Row(entry) for entry in entries), key=lambda row: (-(row.headline.value or 0), row.results.model.name)
    )
    measure = measure_of(rows[0].results, rows[0].headline.name)
    ordered = measure is None or measure.better == "higher"
    whole = [row for row in rows if row.results.is_complete and row.headline.value is not None]
    rest = [row for row in rows if not (row.results.is_complete and row.headline.value is not None)]
    return Table(tuple(_ranked(whole) if ordered else whole), tuple(rest), (), ordered)


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Equal values share a rank. Sorted rows in, sorted rows out."""
    values = sorted(-(row.headline.value or 0) for row in rows)
    lows = sorted(row.headline.low for row in rows if row.headline.low is not None)
    highs = sorted(row.headline.high for row in rows if row.headline.high is not None)
    out = []
    for row in rows:
        own = row.headline
        ranks = None
        if own.low is not None and own.high is not None:
            above = len(lows) - bisect_right(lows, own.high)
            below = bisect_left(highs, own.low)
            ranks = 1 + above, len(rows) - below
        out.append(replace(row, rank=1 + bisect_left(values, -(own.value or 0)), ranks=ranks))
    return out


def _read_prompts(entry: Entry, known: Prompts) -> None:
    """Raises Refused for a broken file."""
    if entry.prompts_sha256 not in known:
        rows = read_records(entry.folder / "prompts.jsonl", PromptRow)
        known[entry.prompts_sha256] = {row.id: row for row in rows}


def _run_files(entry: Entry, known: Prompts, *, values: bool = False) -> RunFiles:
    """As `differences` and `values_of` want a run, without its images."""
    read = read_records(entry.folder / "values.jsonl", ValuesRow) if values else []
    of_prompt = {row.prompt_id: row.values for row in read}
    return RunFiles(entry.folder, entry.folder, entry.results, entry.suite, known[entry.prompts_sha256], (), of_prompt)


def _tested(table: Table, tests: int, known: Prompts) -> Table:
    """The first rows with p-values, corrected over all of them."""
    if not table.ordered or min(tests, len(table.rows)) < 2:
        return table
    first, *others = table.rows[:tests]
    of_tags = first.headline.of_tags
    try:
        best = _values(first, known)
    except Refused as error:
        reason = f"the first has no values to test against: {error.problem}"
        return replace(table, rows=(first, *(replace(row, untested=reason) for row in table.rows[1:])))
    tested: list[Row] = []
    for row in others:
        try:
            moved = changes(best, _values(row, known))
        except Refused as error:
            tested.append(replace(row, untested=error.problem))
        else:
            tested.append(replace(row, p=permutation_p(moved, of_tags=of_tags)))
    corrected = multiple.holm({str(i): row.p for i, row in enumerate(tested) if row.p is not None})
    tested = [replace(row, p_holm=corrected.get(str(i))) for i, row in enumerate(tested)]
    return replace(table, rows=(first, *tested, *table.rows[tests:]))


def _values(row: Row, known: Prompts) -> dict[str, PromptValues]:
    """Of the headline, by prompt. Raises Refused."""
    run = _run_files(row.entry, known, values=True)
    return values_of(run, aggregate_of(run, row.headline.name))
