"""What the commands share: common options, and results on stdout, as tables for people or as JSON for programs."""

from __future__ import annotations

import json
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


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Runs = Annotated[Path, typer.Option("--runs", parser=local_path, metavar="DIR", help="Where runs are kept.")]
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
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key} {_cell(inner)}" for key, inner in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"  # --json has all digits
    return "" if value is None else '""' if value == "" else visible(str(value))
