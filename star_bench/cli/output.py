"""What the commands share: common options, and results on stdout, as tables for people or as JSON for programs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from star_bench.errors import visible

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


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
