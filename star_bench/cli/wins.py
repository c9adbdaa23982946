"""`star-bench wins`: in how many pictures does one model beat another?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from star_bench.cli.output import Json, print_result


def wins(
    first: Annotated[
        Path,
        typer.Argument(metavar="RUN_A", help="A run: its path, model/suite, digest, or latest."),
    ],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another model's run of the same suite.")],
    as_json: Json = False,
) -> None:
    """The share of pictures in which RUN_B scores higher than RUN_A: the same prompts, the same noise."""
    from star_bench.analysis.wins import win_rate

    print_result(win_rate(first, second), as_json)
