"""The terminal's table of a watch: every measure before and after, and the verdict."""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.text import Text

from star_bench.analysis.numbers import number
from star_bench.analysis.watch import Watch
from star_bench.reporting.tables import terminal_table
from star_bench.statistics.bootstrap import Estimate
from star_bench.statistics.paired import METHOD


def _with_interval(difference: Estimate) -> str:
    interval = (
        f"({number(difference.low)} to {number(difference.high)})" if difference.low is not None else "no interval"
    )
    return f"{number(difference.value)}\n{interval}"


def print_watch(watch: Watch, console: Console) -> None:
    """The table with its verdict, and what each number is."""
    changes = (watch.reward, *watch.panel)
    rows = [
        {
            "measure": f"{change.role}: {change.measure}\n{change.word}",
            "before": change.before,
            "after": change.after,
            "difference": _with_interval(change.difference),
        }
        for change in changes
    ]
    frame = pd.DataFrame(rows).astype(dict.fromkeys(["before", "after"], float))
    metrics = dict.fromkeys(f"{change.suite}: {change.metric}" for change in changes)
    units = "; ".join(f"{change.measure} [{change.unit}]" for change in changes)
    said = [
        *watch.notices,
        f"Units: {units}",
        "Metrics: " + "; ".join(metrics),
        f"Intervals of the differences: {METHOD}",
        f"Rose, fell, moved: {watch.test}",
        *(f"{change.measure}: changes up to {change.margin:g} are none" for change in changes if change.margin),
    ]
    note = Text(". ".join(said) + ".", style="dim")
    note.highlight_words(watch.notices, style="not dim bold yellow")
    console.print(terminal_table(watch.sentence, frame, note))
