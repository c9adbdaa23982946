"""Writes a leaderboard: one page that can be opened, mailed or served, and its rows as CSV, JSON and Markdown."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from star_bench.analysis import caveats
from star_bench.analysis.board import ALPHA, RANGES, TEST, Board, Row, Table
from star_bench.analysis.numbers import number
from star_bench.files.atomic import write_atomically
from star_bench.reporting import tables
from star_bench.reporting.page import page, scale
from star_bench.reporting.write import report_name

COLUMNS = ("table", "rank", "best rank", "worst rank", "model", "value", "low", "high", "p Holm", "note")


def note(row: Row) -> str:
    """What keeps a run from being ranked, or its rank from being the whole truth."""
    said = [*caveats.shortcomings(row.results)]
    if row.p_holm is not None and row.p_holm > ALPHA:
        said.append("not shown to differ from the first")
    if row.untested:
        said.append(f"not tested: {row.untested}")
    return "; ".join(said)


def frame(board: Board) -> pd.DataFrame:
    """A row per run, at full precision: COLUMNS, one per tag, metric, digest and run."""
    rows = []
    for place, table in enumerate(board.tables, start=1):
        identity = table.identity
        for row in table.all_rows:
            best, worst = row.ranks or (None, None)
            own = row.headline
            place_in = (place, row.rank, best, worst, row.results.model.name)
            values = (*place_in, own.value, own.low, own.high, row.p_holm, note(row))
            tags = {f"tag {entry.tag}": entry.value for entry in row.results.tags}
            rows.append(
                {
                    **dict(zip(COLUMNS, values, strict=True)),
                    **tags,
                    "metric": identity,
                    "digest": row.results.digest,
                    "run": str(row.entry.folder),
                }
            )
    shown = pd.DataFrame(rows, columns=None if rows else [*COLUMNS, "metric", "digest", "run"])
    return shown.astype(dict.fromkeys(("rank", "best rank", "worst rank"), "Int64"))


def as_data(board: Board) -> dict[str, Any]:
    """Plain data for --json and leaderboard.json."""
    shown = frame(board)
    rows = json.loads(shown.to_json(orient="records"))
    apart = [table.title or "the first" for table in board.tables]
    left_out = [{"run": str(one.folder), "reason": one.reason} for one in board.left_out]
    return {"suite": board.suite, "methods": methods(board), "tables": apart, "rows": rows, "left_out": left_out}


def methods(board: Board) -> list[str]:
    """How the numbers were made."""
    intervals = dict.fromkeys(table.results.interval for table in board.tables)
    return [*(f"Intervals: {one}" for one in intervals), f"Ranks: {RANGES}", f"p Holm: {TEST}"]


def _ranks(row: Row) -> str:
    if row.rank is None:
        return "–"
    best, worst = row.ranks or (row.rank, row.rank)
    return f"{row.rank}" if best == worst else f"{row.rank} ({best} to {worst})"


def _cells(row: Row) -> list[str]:
    own = row.headline
    span = "–" if own.low is None else f"{number(own.low)} to {number(own.high)}"
    return [_ranks(row), row.results.model.name, number(own.value), span, number(row.p_holm), note(row)]


HEADS = ("rank (range)", "model", "value", "95 % interval", "p Holm", "note")


def markdown(board: Board) -> str:
    """Every table with its metric, and how it was made."""
    parts = [f"# {tables.escape_markdown(board.title)}\n"]
    for table in board.tables:
        shown = pd.DataFrame([_cells(row) for row in table.all_rows], columns=list(HEADS))
        parts += [f"**{tables.escape_markdown(heading(table))}**\n", tables.to_markdown(shown)]
    parts += [f"Left out: {tables.escape_markdown(f'{one.folder}: {one.reason}')}\n" for one in board.left_out]
    return "\n".join([*parts, *(f"{each}.\n" for each in methods(board))])


def heading(table: Table) -> str:
    """The metric, and what sets the table apart from the first."""
    apart = f"; apart because of {table.title}" if table.title else ""
    return f"{table.identity}, {table.results.aggregates[0].title}{apart}"


def print_board(board: Board, console: Console, most: int = 30) -> None:
    """The first rows of every table."""
    for table in board.tables:
        rows = table.all_rows
        shown = pd.DataFrame([_cells(row) for row in rows[:most]], columns=list(HEADS))
        more = [f"and {len(rows) - most} more on the page"] if len(rows) > most else []
        said = Text(". ".join([*more, heading(table), *methods(board)]) + ".", style="dim")
        console.print(tables.terminal_table(board.title, shown, said))


def write_leaderboard(board: Board, out: Path, reports: Path) -> Path:
    """Writes index.html, leaderboard.csv, .json and .md into `out`; returns the page's path.

    reports: where the runs' own pages are, to which rows link. Raises DiskError for a file that can't be written.
    """
    write_atomically(out / "leaderboard.csv", tables.to_csv(frame(board)).encode("utf-8", "replace"))
    write_atomically(out / "leaderboard.json", (json.dumps(as_data(board), indent=2) + "\n").encode("utf-8", "replace"))
    write_atomically(out / "leaderboard.md", markdown(board).encode("utf-8", "replace"))
    shown = [_table_values(table, out, reports) for table in board.tables]
    values = {
        "title": board.title,
        "tables": shown,
        "left_out": board.left_out,
        "methods": methods(board),
        "runs": sum(len(table.all_rows) for table in board.tables),
    }
    text = page("leaderboard.html.j2", values, styles=["leaderboard.css"], scripts=["leaderboard.js"])
    write_atomically(out / "index.html", text.encode("utf-8", "replace"))
    return out / "index.html"


def _table_values(table: Table, out: Path, reports: Path) -> dict[str, Any]:
    tags = table.tags  # once: it looks at all rows
    return {
        "heading": heading(table),
        "tags": tags,
        "scale": scale(table.results),
        "marks": caveats.licence_marks([part for row in table.all_rows for part in row.results.ledger]),
        "rows": [_row_values(row, tags, out, reports) for row in table.all_rows],
    }


def _row_values(row: Row, tags: Sequence[str], out: Path, reports: Path) -> dict[str, Any]:
    by_tag = {entry.tag: entry.value for entry in row.results.tags}
    report = reports / report_name(row.results) / "index.html"
    return {
        "cells": _cells(row),
        "rank": row.rank,
        "value": row.headline.value,
        "entry": row.headline,
        "p": row.p_holm,
        "tags": [by_tag.get(tag) for tag in tags],
        "href": Path(os.path.relpath(report, out)).as_posix() if report.is_file() else "",
        "digest": row.results.digest[:8],
    }
