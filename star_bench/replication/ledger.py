"""The ledger: every published number of a plan beside what was measured, as plain data and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from star_bench.analysis import numbers
from star_bench.analysis.caveats import licence_marks
from star_bench.analysis.numbers import ABSENT, number
from star_bench.replication.plan import Plan
from star_bench.replication.run import Entry, Planned, words
from star_bench.replication.sensitivity import Cell, over_seeds
from star_bench.replication.verdict import UNDECIDED, Verdict
from star_bench.reporting.tables import terminal_table
from star_bench.statistics.paired import METHOD as PAIRED

JUDGED = (Verdict.REPRODUCED, Verdict.DIFFERS)
WINDOWS = (
    "Window: a difference of at most so much, to either side, can be chance. It holds the noise of two draws on the same "
    "prompts, the rounding of the published number, and the row's tolerance"
)
OWN = "the row's own run"
SCHEMA = 1


@dataclass(frozen=True)
class Ledger:
    """entries: in the plan's order."""

    plan: Plan
    entries: tuple[Entry, ...]

    def of(self, *verdicts: Verdict) -> list[Entry]:
        return [entry for entry in self.entries if entry.finding.verdict in verdicts]

    @property
    def differs(self) -> bool:
        return bool(self.of(Verdict.DIFFERS))

    @property
    def not_run(self) -> dict[str, list[str]]:
        """What a row lacks most -> the ids of those rows."""
        out: dict[str, list[str]] = {}
        for entry in self.of(Verdict.NOT_RUN):
            out.setdefault(entry.lacks[0].kind, []).append(entry.row.id)
        return out

    @property
    def failed_cells(self) -> list[str]:
        return [
            f"{entry.row.id} ({words(cell.settings)})"
            for entry in self.entries
            for cell in entry.grid or ()
            if cell.problem
        ]

    @property
    def sentence(self) -> str:
        """Such as "21 rows: 3 reproduced, 18 not run (12 weights not released, 6 weights not here)"."""
        said = []
        for verdict in Verdict:
            count = len(self.of(verdict))
            why = ", ".join(f"{len(ids)} {kind}" for kind, ids in self.not_run.items())
            if count:
                said.append(f"{count} {verdict}" + (f" ({why})" if verdict is Verdict.NOT_RUN else ""))
        return f"{_counted(len(self.entries), 'row')}: {', '.join(said)}"

    @property
    def problem(self) -> tuple[str, str] | None:
        """What keeps this ledger from being whole, and what to do; None where every row that can be run was judged, and
        at least one was."""
        remedy = "see the ledger for each reason, mend it, and give the same command again"
        undecided = [entry.row.id for entry in self.of(*UNDECIDED)]
        if undecided or self.failed_cells:
            what = ", ".join([*undecided, *self.failed_cells])
            return f"no verdict or no number came out of {what}", remedy
        if not self.of(*JUDGED):
            return f"no row of plan {self.plan.name!r} was judged, and no results are no success", remedy
        return None

    def as_dict(self) -> dict[str, Any]:
        """ledger.json."""
        return {
            "schema": SCHEMA,
            "plan": self.plan.name,
            "title": self.plan.title,
            "summary": self.sentence,
            "rows": [as_data(entry, self.plan) for entry in self.entries],
        }


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def protocol_words(entry: Entry, plan: Plan) -> str:
    protocol = plan.protocol(entry.row)
    return "not stated" if protocol is None else protocol.words


def verdict_words(entry: Entry) -> str:
    """Such as "not run: weights not here, judges not here"."""
    kinds = ", ".join(lack.kind for lack in entry.lacks)
    return f"{entry.finding.verdict}: {kinds}" if kinds else str(entry.finding.verdict)


def as_data(entry: Entry, plan: Plan) -> dict[str, Any]:
    """One row as plain data."""
    row, reading = entry.row, entry.measured
    return {
        "id": row.id,
        "model": row.model,
        "checkpoint": row.checkpoint,
        "suite": row.suite,
        "measure": row.measure,
        "published": row.published,
        "source": row.source,
        "protocol": protocol_words(entry, plan),
        "verdict": str(entry.finding.verdict),
        "lacks": [lack.kind for lack in entry.lacks],
        "reasons": list(entry.finding.reasons),
        "measured": None
        if reading is None
        else {
            "title": reading.title,
            **reading.entry.model_dump(include={"value", "low", "high", "n_images", "n_prompts"}),
            "metric": reading.run.results.metric.identity,
            "interval": reading.run.results.interval,
            "protocol": reading.run.results.protocol,
            "run": str(reading.folder),
        },
        "difference": entry.difference,
        "window": None if entry.window is None else {"half": entry.window.half, **asdict(entry.window)},
        "note": row.note,
        "sensitivity": None if entry.grid is None else _grid_data(entry.grid),
    }


def _grid_data(cells: Sequence[Cell]) -> dict[str, Any]:
    return {
        "difference_interval": PAIRED,
        "cells": [asdict(cell) for cell in cells],
        "over_seeds": [asdict(spread) for spread in over_seeds(cells)],
    }


def signed(value: float | None) -> str:
    return numbers.signed(value).replace("-", "−")


def interval_words(low: float | None, high: float | None) -> str:
    return ABSENT if low is None or high is None else f"{number(low)} to {number(high)}"


def ledger_frame(ledger: Ledger) -> pd.DataFrame:
    """For people: one row per published number, everything as text. Published numbers keep their printed decimals."""
    rows = []
    for entry in ledger.entries:
        value = entry.measured.entry if entry.measured else None
        rows.append(
            {
                "row": entry.row.id,
                "model": entry.row.model,
                "suite": entry.row.suite,
                "measure": entry.row.measure,
                "published": entry.row.published,
                "measured": number(value.value if value else None),
                "interval": interval_words(value.low, value.high) if value else ABSENT,
                "difference": signed(entry.difference),
                "window": f"±{number(entry.window.half)}" if entry.window else ABSENT,
                "verdict": verdict_words(entry),
            }
        )
    return pd.DataFrame(rows)


def tidy_frame(ledger: Ledger) -> pd.DataFrame:
    """For programs: full precision, and every number with its metric and how its interval and window were made."""
    rows = []
    for entry in ledger.entries:
        data = as_data(entry, ledger.plan)
        measured, window = data.pop("measured") or {}, data.pop("window") or {}
        for name in ("sensitivity", "lacks", "reasons"):
            del data[name]
        rows.append(
            {
                **data,
                "verdict": verdict_words(entry),
                **{key: measured.get(key) for key in ("value", "low", "high", "n_images", "n_prompts")},
                "metric": measured.get("metric"),
                "interval": measured.get("interval"),
                **{f"window_{key}": window.get(key) for key in ("half", "noise", "rounding", "tolerance", "basis")},
                "reasons": "; ".join(entry.finding.reasons),
                "run": measured.get("run"),
            }
        )
    return pd.DataFrame(rows)


def grid_frame(cells: Sequence[Cell]) -> pd.DataFrame:
    """For people: a row per cell."""
    rows = []
    for cell in cells:
        change = cell.difference
        shown: dict[str, str] = {name.replace("_", " "): f"{value:g}" for name, value in cell.settings.items()}
        shown |= {"value": number(cell.value), "interval": interval_words(cell.low, cell.high)}
        if cell.problem:
            shown |= {"difference": ABSENT, "its interval": cell.problem}
        elif cell.own:
            shown |= {"difference": ABSENT, "its interval": OWN}
        elif change is not None:
            ends = ABSENT if change.low is None else f"{signed(change.low)} to {signed(change.high)}"
            shown |= {"difference": signed(change.value), "its interval": ends}
        rows.append(shown)
    return pd.DataFrame(rows)


def seeds_frame(cells: Sequence[Cell]) -> pd.DataFrame:
    """For people: a row per setting with several seeds; may have none."""
    return pd.DataFrame(
        [
            {
                **{name.replace("_", " "): f"{value:g}" for name, value in spread.settings.items()},
                "seeds": ", ".join(map(str, spread.seeds)),
                "mean": number(spread.mean),
                "standard deviation": number(spread.deviation),
                "lowest": number(spread.lowest),
                "highest": number(spread.highest),
            }
            for spread in over_seeds(cells)
        ]
    )


def metrics_caption(ledger: Ledger) -> str:
    """What every measured number is, and how its interval and its window were made."""
    readings = [entry.measured for entry in ledger.entries if entry.measured]
    metrics = list(dict.fromkeys(reading.run.results.metric.identity for reading in readings))
    intervals = list(dict.fromkeys(reading.run.results.interval for reading in readings))
    bases = list(dict.fromkeys(entry.window.basis for entry in ledger.entries if entry.window))
    said = []
    if metrics:
        said += [f"Metrics: {'; '.join(metrics)}", f"Intervals: {'; '.join(intervals)}"]
    said.append(f"{WINDOWS}. Made of: {'; or '.join(bases)}" if bases else WINDOWS)
    return ". ".join(said) + "."


def notices(ledger: Ledger) -> list[str]:
    """What a reader must know first: what is not for commercial use, or may not be."""
    parts = [part for entry in ledger.entries if entry.measured for part in entry.measured.run.results.ledger]
    return licence_marks(parts)


def print_ledger(ledger: Ledger, console: Console) -> None:
    """The table, and the grids below it. What no row has takes no room."""
    note = Text(" ".join([*(f"{notice}." for notice in notices(ledger)), metrics_caption(ledger)]), style="dim")
    console.print(terminal_table(ledger.plan.title, _narrow(ledger_frame(ledger)), note))
    for entry in ledger.entries:
        if entry.grid:
            note = Text(f"Difference: from the row's own run; {PAIRED}.", style="dim")
            console.print(terminal_table(f"Sensitivity of {entry.row.id}", grid_frame(entry.grid), note))
            if not (seeds := seeds_frame(entry.grid)).empty:
                console.print(terminal_table(f"{entry.row.id} over seeds", seeds, Text("")))


def _narrow(frame: pd.DataFrame) -> pd.DataFrame:
    """Of `ledger_frame`, for 80 columns: the interval under the measured number, the window under the difference."""
    out = frame[["row", "published"]].copy()
    if (frame["measured"] != ABSENT).any():
        out["measured"] = frame["measured"] + ("\n" + frame["interval"]).where(frame["interval"] != ABSENT, "")
        out["difference"] = frame["difference"] + ("\nin " + frame["window"]).where(frame["window"] != ABSENT, "")
    return out.assign(verdict=frame["verdict"].str.split(",").str[0])


def planned_rows(found: Sequence[Planned]) -> list[dict[str, Any]]:
    """A dry run as plain data. minutes: None where no earlier run of the model was timed on this device."""
    out = []
    for each in found:
        cost = each.cost or {}
        minutes = cost.get("minutes_of_generation")
        kinds = ", ".join(lack.kind for lack in each.lacks)
        what = f"not run: {kinds}" if kinds else f"run, no verdict: {each.unstated}" if each.unstated else "run"
        out.append(
            {
                "row": each.name,
                "what": what,
                "images": cost.get("images"),
                "already_made": cost.get("already_made"),
                "minutes": minutes if isinstance(minutes, float) else None,
            }
        )
    return out
