"""What a person may call a run: a path, `latest`, the beginning of its digest, or model/suite. All verbs resolve it here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from star_bench.catalogue.cards import did_you_mean
from star_bench.errors import UsageError
from star_bench.runs.pictures import PICTURES
from star_bench.runs.scores import RESULTS
from star_bench.runs.store import MANIFEST

RUNS_VARIABLE = "STAR_BENCH_RUNS"
LATEST = "latest"
PREFIX = re.compile(r"[0-9a-f]{4,64}")
"""Four digits or more: fewer are sooner a word than a digest (chosen here)."""
FORMS = "give runs/<model>/<suite>/<digest>, <model>/<suite>, the beginning of a digest (4 digits or more), or 'latest'"


def runs_folder() -> Path:
    """Where runs are looked for by name: STAR_BENCH_RUNS, or runs in the working folder."""
    return Path(os.environ.get(RUNS_VARIABLE) or "runs")


def find(named: Path, runs: Path | None = None) -> Path:
    """The directory of the run that a person means. A path that is there means itself, whatever else has that name.

    runs: by default `runs_folder`. Raises UsageError where there is none, or several.
    """
    if named.exists():
        return _at(named)
    runs = runs or runs_folder()
    there, word = list(_runs(runs)), named.as_posix()
    if word == LATEST:
        finished = [run for run in there if (run / RESULTS).is_file()]
        if not finished:
            raise UsageError(f"there is no finished run in {runs}", "run a suite first, or give a run's path")
        return max(finished, key=lambda run: (run / RESULTS).stat().st_mtime_ns)
    found = [run for run in there if _is_called(word, run)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(run.relative_to(runs).as_posix() for run in found[:5]) + (", ..." if found[5:] else "")
        raise UsageError(f"{word!r} means {len(found)} runs in {runs} ({listed})", "give one by its digest")
    known = dict.fromkeys(f"{run.parts[-3]}/{run.parts[-2]}" for run in there)
    near = f" ({did_you_mean(word, known)})" if known and "/" in word else ""
    raise UsageError(f"there is no run {word!r}{near}", FORMS)


def _at(path: Path) -> Path:
    folder = path.parent if path.name == RESULTS else path
    if not (folder / MANIFEST).is_file():
        raise UsageError(f"{path} is no run directory (there is no {MANIFEST})", FORMS)
    return folder


def _runs(runs: Path) -> Iterator[Path]:
    for manifest in sorted(runs.glob(f"*/*/*/{MANIFEST}")):
        if manifest.parts[-3] != PICTURES:
            yield manifest.parent


def _is_called(word: str, run: Path) -> bool:
    *names, last = word.split("/")
    own = run.parts[-3:]
    if names and PREFIX.fullmatch(last) and own[2].startswith(last) and own[3 - len(names) - 1 : 2] == tuple(names):
        return True
    if not names:
        return bool(PREFIX.fullmatch(last)) and own[2].startswith(last)
    return own[:2] == ("--".join(names), last)  # org/name of a hub is org--name
