"""Writes docs/reliability.md from docs/reliability.json: what `make faults` tried, and what held.

A fault that the published list has and that was not tried stands there too, as not run.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

from figures import FIGURES, Row

from star_bench.files.atomic import write_atomically
from star_bench.version import __version__

PAGE = FIGURES.with_suffix(".md")
AREAS = {
    "runs": "Runs that die, and disks that fill",
    "pictures": "Pictures that are broken, or show nothing",
    "training": "Training",
    "inputs": "Files and plugins from strangers",
    "network": "Networks",
    "load": "Long runs",
}
PROMISED = (  # area, and words that its rows' faults begin with or hold
    ("runs", "kill -9"),
    ("runs", "SIGINT"),
    ("runs", "disk full"),
    ("runs", "second process"),
    ("runs", "torn"),
    ("runs", "out of memory"),
    ("runs", "shuffled"),
    ("runs", "protocol"),
    ("pictures", "truncated"),
    ("pictures", "NaN"),
    ("pictures", "missing"),
    ("runs", "broken detector"),
    ("training", "kill -9"),
    ("inputs", "pickle"),
    ("inputs", "YAML"),
    ("inputs", "JSON"),
    ("inputs", "picture"),
    ("inputs", "prompt"),
    ("inputs", "changed files"),
    ("inputs", "HTML page"),
    ("inputs", "hang"),
    ("network", "closed"),
    ("network", "cut"),
    ("load", "cap"),
)
"""The project's list of figures to publish."""
ELSEWHERE = (
    "Two figures of the list are tests of their own in `make test`: 95 % intervals cover 94 to 96 % over 2,000 simulated "
    "runs and the gate's false alarms are at most 5 % ([statistics](design/statistics.md))."
)


INTRODUCTION = (
    "Each line is a test in `tests/faults`, on real processes and the miniature. `make test` runs a few of each; "
    "`make faults` runs the counts below, about half an hour on one core, and writes this page.\n"
)


def not_run(rows: list[Row]) -> list[tuple[str, str]]:
    """What was promised and has no row."""
    return [
        (area, words)
        for area, words in PROMISED
        if not any(row.area == area and words.lower() in row.fault.lower() for row in rows)
    ]


def page(rows: list[Row]) -> str:
    """The whole of docs/reliability.md."""
    inputs = [row for row in rows if row.area == "inputs"]
    others = [row for row in rows if row.area != "inputs"]
    lost = not_run(rows)
    parts = [
        "# Reliability: faults tried, and what held\n",
        INTRODUCTION,
        f"* **Faults tried: {_sum(others, 'tried'):,}, lost: {_lost(others):,}.**",
        f"* **Bad inputs tried: {_sum(inputs, 'tried'):,}, escaped: {_lost(inputs):,}.**\n",
        f"star-bench {__version__}, Python {platform.python_version()}, {platform.machine()}, CPU. {ELSEWHERE}\n",
    ]
    if lost:
        named = "; ".join(f"{AREAS[area].lower()}: {words}" for area, words in lost)
        parts.append(f"> **NOT RUN** when this page was written: {named}.\n")
    for area, title in AREAS.items():
        mine = [row for row in rows if row.area == area]
        if mine:
            parts += [f"## {title}\n", "| fault | required | tried | held | measured |", "|---|---|---|---|---|"]
            parts += [_line(row) for row in mine]
            parts.append("")
    return "\n".join(parts)


def _sum(rows: list[Row], field: str) -> int:
    return sum(getattr(row, field) for row in rows)


def _lost(rows: list[Row]) -> int:
    return _sum(rows, "tried") - _sum(rows, "held")


def _line(row: Row) -> str:
    held = f"{row.held:,}" if row.held == row.tried else f"**{row.held:,}**"
    cells = (row.fault, row.requirement, f"{row.tried:,}", held, row.note)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def write(figures: Path = FIGURES, out: Path = PAGE) -> list[tuple[str, str]]:
    """Returns what was promised and not run."""
    rows = [Row(**kept) for kept in json.loads(figures.read_text())] if figures.exists() else []
    write_atomically(out, page(rows).encode())
    return not_run(rows)


if __name__ == "__main__":
    missing = write()
    for area, words in missing:
        print(f"not run: {area}: {words}", file=sys.stderr)  # noqa: T201
    sys.exit(3 if missing else 0)
