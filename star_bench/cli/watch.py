"""`star-bench watch`: did a trained reward rise at the cost of what it was not trained on?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from star_bench.cli.app import Command
from star_bench.cli.output import Json, print_result
from star_bench.errors import Incomplete, UsageError

ALARM = 1  # as a failed gate
PANEL = "--panel"


class PanelPairs(Command):
    """Reads `--panel A B` as `--panel A --panel B`: typer has no option that takes two values and is repeatable."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        for i, word in enumerate(args):
            if i > 1 and args[i - 2] == PANEL and not word.startswith("-"):
                spread.append(PANEL)
            spread.append(word)
        return super().parse_args(ctx, spread)


def watch(
    reward: Annotated[
        tuple[Path, Path],
        typer.Option(metavar="BEFORE AFTER", help="Two runs of the suite that was trained on: their directories."),
    ],
    panel: Annotated[
        list[Path],
        typer.Option(PANEL, metavar="BEFORE AFTER", help="Two runs of a held-out suite, same models; repeatable."),
    ],
    margin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MEASURE=NUMBER", help="A change up to so much, in the measure's unit, is none; repeatable."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Look for reward hacking: the trained reward rises while a held-out panel falls."""
    from star_bench.analysis.watch import Verdict
    from star_bench.analysis.watch import watch as compare
    from star_bench.reporting.watch import print_watch

    if len(panel) % 2:
        raise UsageError(f"{PANEL} {panel[-1]} names one run", f"give two, as in {PANEL} BEFORE AFTER")
    found = compare(reward, list(zip(panel[::2], panel[1::2], strict=True)), _margins(margin or []))
    if as_json:
        print_result(found.as_dict(), as_json=True)
    else:
        from rich.console import Console

        print_watch(found, Console())
    if found.verdict is Verdict.UNDECIDED:
        raise Incomplete(found.sentence, "give runs with more prompts")
    if found.verdict is Verdict.ALARM:
        raise typer.Exit(ALARM)


def _margins(given: list[str]) -> dict[str, float]:
    """By measure. Raises UsageError for what is no MEASURE=NUMBER, or a measure that stands twice."""
    out: dict[str, float] = {}
    for word in given:
        measure, _, number = word.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            measure, value = "", 0.0
        if not measure or measure in out:
            what = "names a measure twice" if measure else "is no MEASURE=NUMBER"
            raise UsageError(f"--margin {word} {what}", "give one number per measure, as in --margin CLIPScore=0.5")
        out[measure] = value
    return out
