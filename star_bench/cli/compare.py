"""`star-bench compare`: what is different between two or more models' runs, and by which pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from star_bench.cli.gate import Allow
from star_bench.cli.output import Json, print_result


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Runs, the baseline first: their directories, or a model's folder, runs/<model>, with runs of suites.",
        ),
    ],
    allow: Allow = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the page is written; by default reports/compare-<models>.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Differences with intervals and p-values, suite by suite and tag by tag, and the pictures that flipped."""
    from star_bench.analysis.runs import compare_paths
    from star_bench.reporting.comparison.tables import as_data, print_comparisons
    from star_bench.reporting.comparison.write import folder_name, write_comparison

    found = compare_paths(runs, allow or ())
    waived = {
        name for suite in found for each in suite.comparisons for w in each.waived for name in (w.field, w.part.value)
    }
    for name in allow or ():
        if name not in waived:
            typer.echo(f"--allow {name} waived nothing: these runs do not differ in it", err=True)
    page = write_comparison(found, out or Path("reports") / folder_name(found))
    if as_json:
        print_result({"comparisons": as_data(found), "report": str(page)}, as_json=True)
    else:
        from rich.console import Console

        print_comparisons(found, Console())
    typer.echo(f"report: {page}", err=True)
