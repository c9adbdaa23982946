"""Runs the rows of a plan as `star-bench run` would, and says what became of each published number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from star_bench.errors import StarBenchError
from star_bench.replication.plan import Grid, Plan, Row
from star_bench.replication.readiness import Lack, Readiness
from star_bench.replication.reading import Reading, read
from star_bench.replication.sensitivity import Cell, compare
from star_bench.replication.verdict import Finding, Verdict, judge
from star_bench.replication.window import SAME, WHOLE, WITHIN, Window
from star_bench.reporting.write import report_name, write_report
from star_bench.runs import run as runner
from star_bench.runs.cost import estimate_cost
from star_bench.runs.progress import Progress
from star_bench.statistics.within import TWO_DRAWS, within_prompts


@dataclass(frozen=True)
class Settings:
    """Of the command: nothing here changes a number."""

    runs: Path
    reports: Path
    device: str = "auto"
    batch_size: int = 8  # chosen here, as for `star-bench run`


@dataclass(frozen=True)
class Entry:
    """A row of the ledger. measured, report and difference are None of what was not run, or has no number; window, of what
    is held against nothing.

    lacks: why it was not run. report: the run's own page. grid: None where no sensitivity was asked for.
    """

    row: Row
    finding: Finding
    lacks: tuple[Lack, ...] = ()
    measured: Reading | None = None
    report: Path | None = None
    difference: float | None = None
    window: Window | None = None
    grid: tuple[Cell, ...] | None = None


def options_of(row: Row, plan: Plan, settings: Settings) -> runner.Options:
    """What `star-bench run` would be asked."""
    options = runner.Options(
        suites=(row.suite,),
        model=row.checkpoint,
        limit=row.limit,
        batch_size=settings.batch_size,
        device=settings.device,
        runs=settings.runs,
    )
    protocol = plan.protocol(row)
    if protocol is None:
        return options
    return with_settings(options, {name: value for name in SETTINGS if (value := protocol.stated(name)) is not None})


SETTINGS = ("samples", "steps", "guidance_scale", "size", "seed", "dtype")


def with_settings(options: runner.Options, stated: dict[str, Any]) -> runner.Options:
    """stated: of SETTINGS."""
    size = stated.get("size")
    pixels = {} if size is None else {"height": size, "width": size}
    drawn: dict[str, Any] = {name: stated[name] for name in ("steps", "guidance_scale") if name in stated}
    rest = {name: stated[name] for name in ("samples", "seed", "dtype") if name in stated}
    return replace(options, settings=options.settings.model_copy(update={**drawn, **pixels}), **rest)


@dataclass(frozen=True)
class Planned:
    """What would be run of a row, or of a cell of its grid. name: the row's id, and the cell's settings.

    lacks: why it can't be. cost: of `estimate_cost`, None for what can't be run. unstated: why there will be no verdict.
    """

    name: str
    lacks: tuple[Lack, ...] = ()
    cost: dict[str, Any] | None = None
    unstated: str | None = None


def dry_run(plan: Plan, rows: Sequence[Row], settings: Settings, *, sensitivity: bool) -> list[Planned]:
    """Every row, and with `sensitivity` every cell of a row that can be run. Nothing is fetched or generated."""
    readiness = Readiness(plan, runner.choose_device(settings.device), fetch=False)
    out = []
    for row in rows:
        missing = readiness.lacks(row)
        if missing:
            out.append(Planned(row.id, missing))
            continue
        options = options_of(row, plan, settings)
        out.append(Planned(row.id, cost=estimate_cost(runner.prepare(options))[0], unstated=plan.unstated(row)))
        if sensitivity and row.sensitivity:
            for cell in row.sensitivity.cells():
                cost = estimate_cost(runner.prepare(with_settings(options, cell)))[0]
                out.append(Planned(f"{row.id}, {words(cell)}", cost=cost))
    return out


def words(settings: dict[str, Any]) -> str:
    """Such as "steps 4, guidance scale 1.0"."""
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in settings.items())


def run_rows(plan: Plan, rows: Sequence[Row], settings: Settings, bar: Progress, *, sensitivity: bool) -> list[Entry]:
    """Every row's entry, in order. A row that fails does not stop the others; one run serves all rows that need it.

    Raises UsageError for a measure that a suite does not have, before anything is generated.
    """
    readiness = Readiness(plan, runner.choose_device(settings.device), fetch=True)
    missing = [readiness.lacks(row) for row in rows]
    runs = _Runs(settings, bar)
    entries = []
    for row, lack in zip(rows, missing, strict=True):
        if lack:
            entries.append(Entry(row, Finding(Verdict.NOT_RUN, tuple(each.reason for each in lack)), lack))
            continue
        bar.note(f"row {row.id}")
        options = options_of(row, plan, settings)
        entry = _entry(row, plan, options, runs)
        if sensitivity and row.sensitivity and entry.measured:
            entry = replace(entry, grid=_grid(row, row.sensitivity, entry.measured, options, runs))
        entries.append(entry)
    return entries


class _Runs:
    """The runs of one command: each run directory is gone through once, however many rows need it."""

    def __init__(self, settings: Settings, bar: Progress) -> None:
        self._settings = settings
        self._bar = bar
        self._reports: dict[Path, Path | None] = {}

    def reading(self, options: runner.Options, row: Row, *, report: bool = True) -> Reading:
        """Runs, or goes on with, what the options ask for, and reads the row's measure of it."""
        prepared = runner.prepare(options)
        (part,) = prepared.parts
        if part.folder not in self._reports:
            runner.run(prepared, options, self._bar)
            self._reports[part.folder] = None
        reading = read(part.folder, row.measure)
        if report and self._reports[part.folder] is None:
            target = self._settings.reports / report_name(reading.run.results)
            self._reports[part.folder] = write_report(part.folder, target)
        return reading

    def report(self, reading: Reading) -> Path | None:
        return self._reports[reading.folder]


def _why(error: Exception) -> str:
    said = str(error) if isinstance(error, StarBenchError) else f"{type(error).__name__}: {error}"
    return said.removesuffix(".")


def _entry(row: Row, plan: Plan, options: runner.Options, runs: _Runs) -> Entry:
    try:
        reading = runs.reading(options, row)
    except Exception as error:  # noqa: BLE001 - a model's own code may raise anything; the other rows must not suffer
        return Entry(row, Finding(Verdict.FAILED, (_why(error),)))
    entry = Entry(row, Finding(Verdict.INCOMPLETE), measured=reading, report=runs.report(reading))
    if reading.problem or reading.entry.value is None:
        return replace(entry, finding=Finding(Verdict.INCOMPLETE, (reading.problem or "nothing has a score",)))
    difference = reading.entry.value - row.value
    entry, unstated = replace(entry, difference=difference), plan.unstated(row)
    if unstated:
        return replace(entry, finding=Finding(Verdict.PROTOCOL_NOT_STATED, (unstated,)))
    window = window_of(row, reading)
    finding = judge(difference, window, plan.suites[row.suite].widest_window)
    return replace(entry, finding=finding, window=window)


def window_of(row: Row, reading: Reading) -> Window | None:
    """None where nothing is known of chance: a single image of a tag's single prompt."""
    if row.same_noise:
        return Window(0.0, row.rounding, row.tolerance, SAME)
    noise = within_prompts(list(reading.prompts.values()), of_tags=reading.of_tags)
    if noise is not None:
        return Window(TWO_DRAWS * noise.half_width, row.rounding, row.tolerance, WITHIN)
    low, high = reading.entry.low, reading.entry.high
    if low is None or high is None:
        return None
    return Window(TWO_DRAWS * (high - low) / 2, row.rounding, row.tolerance, WHOLE)


def _grid(row: Row, grid: Grid, own: Reading, options: runner.Options, runs: _Runs) -> tuple[Cell, ...]:
    """Every cell; those that fail say why."""
    cells = []
    for settings in grid.cells():
        try:
            reading = runs.reading(with_settings(options, settings), row, report=False)
        except Exception as error:  # noqa: BLE001 - as for a row
            cells.append(Cell(settings, problem=_why(error)))
            continue
        cells.append(compare(settings, own, reading))
    return tuple(cells)
