"""A run that is killed without warning, again and again, ends with the bytes of one that was not."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from figures import Row, count, publish
from processes import SMALL, start
from stored import BATCH, PLANNED, differences, pictures_in, rows, run_to_the_end

SEED = 7
IN_A_CHAIN = 5
"""Kills of one run, at most, before it is let to its end."""


@dataclass(frozen=True)
class Windows:
    """Seconds of the undisturbed run, by when its files were written."""

    whole: float
    """From the process' start to its page."""
    generating: float
    """From the first picture to the last one's row."""
    finishing: float
    """From there, through scoring and the results, to the page."""

    @classmethod
    def of(cls, folder: Path, whole: float) -> Windows:
        drawn = pictures_in(folder)
        first = min(path.stat().st_mtime for path in drawn.glob("images/*/*.png"))
        made = (drawn / "samples.jsonl").stat().st_mtime
        return cls(whole, made - first, _page(folder)[0].stat().st_mtime - made)


def _page(folder: Path) -> list[Path]:
    return list(folder.glob("reports/*/index.html"))


def _samples(folder: Path) -> int:
    return sum(len(rows(path)) for path in folder.glob("runs/*/*/*/samples.jsonl"))


def kill_once(folder: Path, rng: random.Random, kind: int, windows: Windows) -> bool:
    """Starts or goes on with the run and kills it; False where its page was written before.

    kind 0: at any moment of the process' life; 1: while it generates; 2: from its last picture on, where it scores and
    writes results and report. Where all pictures are there, 1 and 2 are like 0.
    """
    before = _samples(folder)
    with start(folder, "run", *SMALL) as child:
        moment = rng.uniform(0, windows.whole)
        if kind and before < PLANNED:
            enough = min(before + 1, PLANNED) if kind == 1 else PLANNED
            while child.poll() is None and _samples(folder) < enough:
                time.sleep(0.005)
            moment = rng.uniform(0, windows.generating if kind == 1 else windows.finishing)
        try:
            child.wait(moment)
        except subprocess.TimeoutExpired:
            child.kill()
        child.communicate()
    return not _page(folder)


def _phase(folder: Path) -> str:
    """What was being done, judged by the files that are there."""
    if not _samples(folder):
        return "before the first batch was stored"
    if _samples(folder) < PLANNED:
        return "while generating"
    if sum(len(rows(path)) for path in folder.glob("runs/*/*/*/scores.jsonl")) < PLANNED:
        return "while scoring"
    return "while results and report were written"


def _pictures(folder: Path) -> dict[str, tuple[int, int]]:
    """Each picture's file and when it was written: a picture that is made again is another file."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.glob("runs/*/*/*/images/*/*.png")
    }


@pytest.mark.timeout(3600)
def test_a_killed_run_goes_on_to_the_same_bytes(undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    untouched, seconds = undisturbed
    windows = Windows.of(untouched, seconds)
    points, rng = count(quick=2, full=50), random.Random(SEED)
    phases: Counter[str] = Counter()
    failures: list[str] = []
    redone, lost, chain = 0, 0, 0
    while phases.total() < points:
        folder = tmp_path / str(chain)
        folder.mkdir()
        chain += 1
        killed = 0
        before: list[dict[str, tuple[int, int]]] = []
        # The quick part leaves out the moments that are mostly start-up.
        kinds = [(phases.total() + i + (points < 3)) % 3 for i in range(min(IN_A_CHAIN, points - phases.total()))]
        for kind in kinds:
            if not kill_once(folder, rng, kind, windows):
                break
            killed += 1
            phases[_phase(folder)] += 1
            before.append(_pictures(folder))
        run_to_the_end(folder)
        wrong = differences(untouched, folder)
        after = _pictures(folder)
        states = [*before, after]
        for earlier, later in pairwise(states):
            again = sum(later.get(name) != file for name, file in earlier.items())
            redone = max(redone, again)
            if again > BATCH:
                wrong.append(f"{again} stored pictures were made again after one kill")
        if wrong:
            lost += killed
            failures += [f"seed {SEED}, chain {chain}: {one}" for one in wrong]
    tried = phases.total()
    where = ", ".join(f"{n} {phase}" for phase, n in sorted(phases.items()))
    publish(
        Row(
            area="runs",
            fault="kill -9 at random points of a run",
            requirement="pictures, scores, results and page byte-identical to an undisturbed run's; "
            "at most one batch redone per kill",
            tried=tried,
            held=tried - lost,
            note=f"{where}; up to {IN_A_CHAIN} kills of one run; at most {redone} pictures on disk were made again "
            f"after a kill, with batches of {BATCH}; no picture was recorded or scored twice",
        ),
        failures,
    )
