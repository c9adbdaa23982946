"""What the commands share: common options, and results on stdout, as tables for people or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from star_bench.errors import UsageError, visible


def local_path(value: str | Path) -> Path:
    """Raises UsageError for an address, which pathlib would take for a folder named 's3:'."""
    if "://" in str(value):
        raise UsageError(
            f"{value} is an address, and work is done in folders of this machine",
            "use 'run --mirror ADDRESS' to keep runs and reports there, and 'star-bench pull ADDRESS' to fetch them",
        )
    return Path(value)


SHOWN = 30
"""Rows of a listing that are shown without --all (chosen here)."""
NARROWEST, GAP = 10, 2
"""Characters of a column that may be cut, and between two columns (chosen here)."""
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Runs = Annotated[
    Path,
    typer.Option("--runs", parser=local_path, metavar="DIR", envvar="STAR_BENCH_RUNS", help="Where runs are kept."),
]


Models = Annotated[
    Path | None,
    typer.Option("--models", metavar="FILE", help="Checkpoints of your own, beside the shipped ones."),
]
Reports = Annotated[
    Path, typer.Option("--reports", parser=local_path, metavar="DIR", help="Where reports are written.")
]


def print_result(data: Any, as_json: bool) -> None:
    """Rows (a list of dicts) or one mapping: a table for people, JSON for programs."""
    if as_json:
        typer.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = data if isinstance(data, list) else [{"what": k, "value": v} for k, v in data.items()]
    if not rows:
        typer.echo("nothing yet", err=True)
        return
    table = Table()
    for column in rows[0]:
        table.add_column(_title(column), overflow="fold")
    for row in rows:
        first, *rest = row.values()
        shown = _title(first) if rows is not data else _cell(first)
        table.add_row(Text(shown), *(Text(_cell(value)) for value in rest))
    Console().print(table)


def print_listing(rows: Sequence[Mapping[str, Any]], whole: Collection[str], *, most: int | None) -> None:
    """Rows for people, one line each. whole: columns that are never cut; from the right, others that have no room are left
    out. most: rows shown, None for all. What is not shown is said on stderr."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        typer.echo("nothing yet", err=True)
        return
    shown, console = rows[:most], Console()
    cells = {key: [Text(_cell(row[key]).replace("\n", " ")) for row in shown] for key in rows[0]}
    natural = {key: max(len(_title(key)), *(text.cell_len for text in column)) for key, column in cells.items()}
    least = {key: width if key in whole else min(width, NARROWEST) for key, width in natural.items()}
    columns = list(cells)
    while sum(least[key] + GAP for key in columns) > console.width + GAP and not set(columns) <= set(whole):
        columns.remove(next(key for key in reversed(columns) if key not in whole))
    room = console.width + GAP - sum(least[key] + GAP for key in columns)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for key in columns:
        extra = max(0, min(natural[key] - least[key], room))
        room -= extra
        table.add_column(_title(key), no_wrap=True, overflow="ellipsis", width=least[key] + extra)
    for row in zip(*(cells[key] for key in columns), strict=True):
        table.add_row(*row)
    console.print(table)
    if len(shown) < len(rows):
        typer.echo(f"{len(rows) - len(shown)} more: --all shows them", err=True)
    if left := [_title(column) for column in rows[0] if column not in columns]:
        typer.echo(f"no room for {', '.join(left)}: --json has it all", err=True)


def _title(key: str) -> str:
    """A key of the JSON, for a table."""
    return key.replace("_", " ")


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key} {_cell(inner)}" for key, inner in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"  # --json has all digits
    return "" if value is None else '""' if value == "" else visible(str(value))
