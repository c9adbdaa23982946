"""What the fault tests found, row by row: kept in docs/reliability.json and shown in docs/reliability.md.

`make faults` runs every test here with its full count and writes both; `make test` runs a few of each and writes
nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from star_bench.files.atomic import to_json, write_atomically

FULL = os.environ.get("STAR_BENCH_FAULTS") == "full"
FIGURES = Path(__file__).parents[2] / "docs" / "reliability.json"


def count(*, quick: int, full: int) -> int:
    """How often a fault is tried in this run of the tests."""
    return full if FULL else quick


@dataclass(frozen=True)
class Row:
    """One line of the published table."""

    area: str
    """runs, pictures, training, inputs, network or load."""
    fault: str
    """What is done to the program."""
    requirement: str
    """What must hold, each time."""
    tried: int
    held: int
    note: str = ""
    """What was measured beside it, with its unit."""


def publish(row: Row, failures: Sequence[str] = ()) -> None:
    """Keeps the row where the full counts are run, then fails the test if the requirement did not hold each time."""
    if FULL:
        rows = [Row(**kept) for kept in json.loads(FIGURES.read_text())] if FIGURES.exists() else []
        kept = [other for other in rows if (other.area, other.fault) != (row.area, row.fault)]
        kept = sorted([*kept, row], key=lambda r: (r.area, r.fault))
        write_atomically(FIGURES, to_json([asdict(r) for r in kept]))
    assert row.held == row.tried and not failures, f"{row.fault}: {row.held} of {row.tried}; {list(failures)[:5]}"
