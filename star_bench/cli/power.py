"""`star-bench power`: is this suite large enough for the difference I look for?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from star_bench.cli.output import Json, print_result


def power(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run: its path, model/suite, digest, or latest.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[OTHER]", help="Another model's run: how pairs of images really differ.")
    ] = None,
    effect: Annotated[
        float | None, typer.Option(min=0, help="A difference, in the metric's unit: how many prompts does it take?")
    ] = None,
    probability: Annotated[
        float, typer.Option("--power", min=0.5, max=0.999, help="With what probability it shall be found.")
    ] = 0.8,
    as_json: Json = False,
) -> None:
    """The smallest difference that a suite can show, and the prompts and images that a given one takes."""
    from star_bench.analysis.power import power_table
    from star_bench.runs.finished import read_run
    from star_bench.runs.references import find

    runs = [read_run(find(path)) for path in (run, other) if path is not None]
    table = power_table(runs[0], runs[1] if other else None, effect=effect, power=probability)
    if as_json:
        print_result(table, as_json=True)
        return
    print_result(table["rows"], as_json=False)
    needed = "" if effect is None else f"; prompts needed: for a difference of {effect:g}"
    typer.echo(f"detectable: with the run's {table['prompts']} prompts{needed}")
    typer.echo(f"{table['measure']}: {table['metric']}\n{table['method']}")
