"""Ctrl-C and a polite stop: what is done is kept, the exit code says so, and nothing is left lying about."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from figures import FULL, Row, count, publish
from processes import SMALL, start
from stored import BATCH, differences, rows, run_to_the_end

SEED = 11
IN_A_CHAIN = 4
"""Signals to one run before it is let to its end."""
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def _stop(folder: Path, how: signal.Signals, rng: random.Random, *, longest: float) -> tuple[int, str]:
    """The exit code of a run that is sent a signal some time after it began to write, and what it said."""
    with start(folder, "run", *SMALL) as child:
        before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/*/*/manifest.json")}
        while child.poll() is None and not any(
            path.stat().st_mtime_ns != before.get(path) for path in folder.glob("runs/*/*/*/manifest.json")
        ):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, longest))
        child.send_signal(how)
        _, said = child.communicate(timeout=280)
        return child.returncode, said


@pytest.mark.timeout(3600)
def test_a_stopped_run_says_so_and_goes_on(undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    untouched, seconds = undisturbed
    rng, failures = random.Random(SEED), []
    points, tried, held, late, chain = count(quick=2, full=40), 0, 0, 0, 0
    while tried < points:
        folder = tmp_path / str(chain)
        folder.mkdir()
        chain += 1
        stopped, wrong = 0, []
        while stopped < min(IN_A_CHAIN, points - tried):
            how = list(CODES)[stopped % 2]
            code, said = _stop(folder, how, rng, longest=0.8 * seconds if FULL else 1.0)
            if list(folder.glob("reports/*/index.html")):  # its work was done: what died was a process at its exit
                late += 1
                break
            stopped += 1
            if code != CODES[how] or "Traceback" in said:
                wrong.append(f"{how.name}: exit code {code}; {said.strip()[-300:]}")
            if how is signal.SIGINT and "interrupted; the same command goes on from here" not in said:
                wrong.append(f"it says {said.strip()[-300:]!r}")
            wrong += [f"{how.name}: {path} is left" for path in folder.rglob("*.partial")]
            if any(len(rows(path)) % BATCH for path in folder.glob("runs/*/*/*/samples.jsonl")):
                wrong.append(f"{how.name}: a part of a batch is recorded")
        run_to_the_end(folder)
        wrong += differences(untouched, folder)
        tried += stopped
        held += 0 if wrong else stopped
        failures += [f"seed {SEED}, chain {chain}: {one}" for one in wrong]
    publish(
        Row(
            area="runs",
            fault="SIGINT and SIGTERM at random points of a run",
            requirement="batch finished or dropped, exit 130 or 143, no temporary file, goes on to the same bytes",
            tried=tried,
            held=held,
            note=f"half of each; up to {IN_A_CHAIN} of one run; {late} more came after the page was written",
        ),
        failures,
    )
