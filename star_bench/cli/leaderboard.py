"""`star-bench leaderboard`: all runs of a suite, ranked where they may be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from star_bench.cli.output import Json, Reports, Runs, local_path, print_result


def leaderboard(
    suite: Annotated[str, typer.Argument(help="A suite's name, as in 'star-bench ls runs'.")],
    runs: Runs = Path("runs"),
    reports: Reports = Path("reports"),
    out: Annotated[
        Path | None,
        typer.Option(
            parser=local_path, metavar="DIR", help="By default REPORTS/leaderboard-<suite>.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Rank all runs of a suite, with intervals; those that can't be compared stand in tables of their own."""
    from star_bench.analysis.board import leaderboard as build
    from star_bench.reporting.leaderboard.write import as_data, print_board, write_leaderboard

    board = build(runs, suite)
    page = write_leaderboard(board, out or reports / f"leaderboard-{suite}", reports)
    if as_json:
        print_result({**as_data(board), "report": str(page)}, as_json=True)
    else:
        from rich.console import Console

        print_board(board, Console())
    typer.echo(f"report: {page}", err=True)
