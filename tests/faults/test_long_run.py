"""A run of 2,212 pictures and more: within a cap on its memory, and not growing."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import pytest
from figures import Row, publish
from processes import environment
from stored import one_run, pictures_in, rows

CAP = 3 * 2**30
"""Bytes of data that the kernel lets the process have: Linux counts its heap and private writable mappings."""
SAMPLES = 39
"""Of each of the suite's 58 prompts: 2,262 pictures, the first such number that is no smaller than GenEval's 2,212."""
GROWTH = 1.05
"""Memory late in a stage over that early in it (chosen here: an allocator's ups and downs; a leak of one picture of 64
pixels for each that is made would be 12 MB, but that of one step's activations a hundred times as much)."""


@dataclass(frozen=True)
class Moment:
    """What the process held when so many pictures were made and scored. resident: bytes."""

    made: int
    scored: int
    resident: int
    files: int
    threads: int


def _capped() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (CAP, CAP))


def watch(process: subprocess.Popen[bytes], folder: Path) -> list[Moment]:
    """What it held, four times a second, until it ends."""
    inside, moments = psutil.Process(process.pid), []
    while process.poll() is None:
        with contextlib.suppress(psutil.Error, ValueError):
            made = len(rows(pictures_in(folder) / "samples.jsonl"))
            scored = len(rows(one_run(folder) / "scores.jsonl"))
            held = inside.memory_info().rss, inside.num_fds(), inside.num_threads()
            moments.append(Moment(made, scored, *held))
        time.sleep(0.25)
    return moments


def during(moments: list[Moment], name: str, first: float, last: float, of: int) -> list[Moment]:
    """Those in which this share of a stage's pictures was done: `made` or `scored`."""
    return [moment for moment in moments if first * of <= getattr(moment, name) <= last * of]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_2212_pictures_take_no_more_memory_than_the_first_ones(tmp_path: Path) -> None:
    words = ["run", "--model", "miniature", "--suite", "geneval-miniature", "--steps", "2", "--samples", str(SAMPLES)]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "star_bench", *words],
            cwd=tmp_path,
            env=environment(),
            preexec_fn=_capped,
            stdout=said,
            stderr=said,
        )
        moments = watch(process, tmp_path)
    assert process.returncode == 0, (tmp_path / "said").read_text()[-2000:]
    planned = len(rows(pictures_in(tmp_path) / "samples.jsonl"))
    assert planned >= 2212 and len(rows(one_run(tmp_path) / "scores.jsonl")) == planned
    failures = []
    told = []
    for stage in ("made", "scored"):
        early, late = (during(moments, stage, *part, planned) for part in ((0.2, 0.3), (0.9, 0.99)))
        growth = median(m.resident for m in late) / median(m.resident for m in early)
        told.append(f"{stage}: {growth:.3f} times")
        for what in ("files", "threads"):
            most = [max(getattr(m, what) for m in part) for part in (early, late)]
            if most[1] > most[0]:
                failures.append(f"open {what} while pictures are {stage}: {most[0]}, later {most[1]}")
        if growth > GROWTH:
            failures.append(f"memory while pictures are {stage} grows {growth:.3f} times")
    peak = max(m.resident for m in moments) / 2**20
    most = max(m.files for m in moments), max(m.threads for m in moments)
    publish(
        Row(
            area="load",
            fault=f"a run of {planned} pictures under a cap of 3 GB (RLIMIT_DATA)",
            requirement=f"it ends; memory, open files and threads don't grow (memory at most {GROWTH} times)",
            tried=1,
            held=0 if failures else 1,
            note=f"resident memory at 90 to 99 % of the pictures over that at 20 to 30 %, medians: {', '.join(told)}; "
            f"peak {peak:.0f} MiB, at most {most[0]} open files and {most[1]} threads",
        ),
        failures,
    )
