"""`star-bench replicate`: published numbers, measured again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from star_bench.cli.output import Device, Json, Reports, Runs, print_result
from star_bench.cli.prompts import PromptsDir
from star_bench.errors import Incomplete

if TYPE_CHECKING:
    from star_bench.replication.readiness import Lack

DIFFERS = 1  # as a failed gate


def replicate(
    plan: Annotated[str, typer.Argument(metavar="[PLAN]", help="paper, miniature, or the path of a plan.")] = "paper",
    only: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this row of the plan; repeatable.")] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Also run the grids of steps, guidance, size and seed of the rows.")
    ] = False,
    prompts_dir: PromptsDir = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward; no image depends on it.")] = 8,
    device: Device = "auto",
    runs: Runs = Path("runs"),
    reports: Reports = Path("reports"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run, and what can't be and why.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure published numbers again, and write the ledger. The same command goes on where it was stopped."""
    from star_bench.assets import prompt_files
    from star_bench.generation.quiet import quiet_libraries
    from star_bench.replication import ledger, run
    from star_bench.replication.plan import choose, load
    from star_bench.replication.write import write_ledger
    from star_bench.reporting.progress import RichProgress

    prompt_files.use_folder(prompts_dir)
    asked = load(plan)
    rows = choose(asked, only or [], sensitivity=sensitivity)
    settings = run.Settings(runs=runs, reports=reports, device=device, batch_size=batch_size)
    if dry_run:
        planned = run.dry_run(asked, rows, settings, sensitivity=sensitivity)
        print_result(ledger.planned_rows(planned), as_json)
        _say_missing((each.name, each.lacks) for each in planned)
        return
    quiet_libraries()
    with RichProgress() as bar:
        entries = run.run_rows(asked, rows, settings, bar, sensitivity=sensitivity)
    found = ledger.Ledger(asked, tuple(entries))
    page = write_ledger(found, reports / f"replication-{asked.name}")
    if as_json:
        print_result({**found.as_dict(), "report": str(page)}, as_json=True)
    else:
        from rich.console import Console

        ledger.print_ledger(found, Console())
    _say_missing((entry.row.id, entry.lacks) for entry in entries)
    typer.echo(f"{found.sentence}\nledger: {page}", err=True)
    if found.differs:
        raise typer.Exit(DIFFERS)
    if found.problem:
        raise Incomplete(*found.problem)


def _say_missing(found: Iterable[tuple[str, tuple[Lack, ...]]]) -> None:
    """Each thing that is missing once, and the rows that wait for it."""
    from star_bench.replication.readiness import by_reason

    for lack, ids in by_reason(found).items():
        typer.echo(f"{lack.kind} ({', '.join(ids)}): {lack.reason}.", err=True)
