"""Writes a ledger: a page, and the same as Markdown, CSV and JSON."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from star_bench.catalogue import suites
from star_bench.files.atomic import to_json, write_atomically
from star_bench.replication import ledger as tables
from star_bench.replication.ledger import Ledger
from star_bench.replication.readiness import by_reason
from star_bench.replication.run import Entry
from star_bench.replication.verdict import UNDECIDED, Verdict
from star_bench.reporting.page import Scale, page
from star_bench.reporting.tables import to_csv, to_markdown
from star_bench.statistics.paired import METHOD as PAIRED

MARGIN = 1.15  # chosen here: room beside the widest thing that a row's drawing shows


def write_ledger(ledger: Ledger, out: Path) -> Path:
    """Writes ledger.json, ledger.csv, ledger.md and index.html into `out`; returns index.html's path.

    Raises DiskError for a file that can't be written.
    """
    write_atomically(out / "ledger.json", to_json(ledger.as_dict()))
    write_atomically(out / "ledger.csv", to_csv(tables.tidy_frame(ledger)).encode("utf-8", "replace"))
    write_atomically(out / "ledger.md", _markdown(ledger).encode("utf-8", "replace"))
    write_atomically(out / "index.html", _html(ledger, out).encode("utf-8", "replace"))
    return out / "index.html"


def _markdown(ledger: Ledger) -> str:
    """Everything that a plan says stands in tables, which escape it."""
    about = {"plan": ledger.plan.title, "result": ledger.sentence}
    how = {"how the numbers were made": tables.metrics_caption(ledger)}
    parts = [
        f"# Replication: {ledger.plan.name}\n",
        _table(about),
        to_markdown(tables.ledger_frame(ledger)),
        _table(how),
    ]
    for entry in ledger.entries:
        if entry.grid:
            parts += [f"## Sensitivity of {entry.row.id}\n", to_markdown(tables.grid_frame(entry.grid))]
            parts += [_table({"how differences were made": f"from the row's own run; {PAIRED}"})]
            seeds = tables.seeds_frame(entry.grid)
            parts += [] if seeds.empty else [to_markdown(seeds)]
    sources = [
        {
            "row": entry.row.id,
            "source": entry.row.source,
            "protocol": tables.protocol_words(entry, ledger.plan),
            "reasons": "; ".join(entry.finding.reasons),
            "note": entry.row.note,
        }
        for entry in ledger.entries
    ]
    return "\n".join([*parts, "## Sources, protocols, reasons\n", to_markdown(pd.DataFrame(sources))])


def _table(facts: dict[str, str]) -> str:
    return to_markdown(pd.DataFrame([facts]))


@dataclass(frozen=True)
class Drawn:
    """A row as the page shows it. scale: of its drawing, None where nothing was measured. report: from the page's folder."""

    entry: Entry
    words: str
    badge: str
    scale: Scale | None
    report: str | None


def _drawn(entry: Entry, out: Path) -> Drawn:
    report = os.path.relpath(entry.report, out) if entry.report else None
    return Drawn(entry, tables.verdict_words(entry), _badge(entry.finding.verdict), _scale(entry), report)


def _badge(verdict: Verdict) -> str:
    """A class of ledger.css."""
    if verdict is Verdict.REPRODUCED:
        return "good"
    if verdict is Verdict.DIFFERS:
        return "bad"
    return "open" if verdict in UNDECIDED else "none"


def _scale(entry: Entry) -> Scale | None:
    """The published number in the middle, and room for the window, the measured number and its interval."""
    if entry.measured is None or entry.difference is None:
        return None
    middle, reading = entry.row.value, entry.measured.entry
    ends = [value for value in (reading.value, reading.low, reading.high) if value is not None]
    reach = max([abs(end - middle) for end in ends] + ([entry.window.half] if entry.window else []))
    reach = MARGIN * reach or 1.0
    return Scale(middle - reach, middle + reach)


def _counts(ledger: Ledger) -> list[tuple[str, str, int]]:
    """(words, class, number) of each verdict that occurs, what was not run by what it lacks most."""
    judged = [verdict for verdict in Verdict if verdict is not Verdict.NOT_RUN]
    out = [(str(verdict), _badge(verdict), len(found)) for verdict in judged if (found := ledger.of(verdict))]
    lacking = ledger.not_run.items()
    return [*out, *((f"not run: {kind}", _badge(Verdict.NOT_RUN), len(ids)) for kind, ids in lacking)]


def _html(ledger: Ledger, out: Path) -> str:
    groups: dict[str, list[Drawn]] = {}
    for entry in ledger.entries:
        groups.setdefault(entry.row.suite, []).append(_drawn(entry, out))
    values: dict[str, Any] = {
        "ledger": ledger,
        "groups": [(suites.load(name), ledger.plan.suites[name], rows) for name, rows in groups.items()],
        "waiting": by_reason((entry.row.id, entry.lacks) for entry in ledger.entries),
        "counts": _counts(ledger),
        "notices": tables.notices(ledger),
        "caption": tables.metrics_caption(ledger),
        "grids": [
            (entry.row, tables.grid_frame(entry.grid), tables.seeds_frame(entry.grid))
            for entry in ledger.entries
            if entry.grid
        ],
        "paired": PAIRED,
        "own": tables.OWN,
        "protocols": {
            name: protocol.words
            for name, protocol in ledger.plan.protocols.items()
            if any(entry.row.protocol == name for entry in ledger.entries)
        },
        "measured": any(entry.measured for entry in ledger.entries),
        "signed": tables.signed,
        "span": tables.interval_words,
    }
    return page("ledger.html.j2", values, styles=["ledger.css"])
