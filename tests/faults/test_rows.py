"""Torn lines: the last one, which a kill leaves, is done again; any other means that somebody changed the file."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest
from engines import run_here
from figures import Row, count, publish
from stored import unnamed
from stores import file_of

from star_bench.errors import Refused

SEED = 13
FILES = ("samples.jsonl", "scores.jsonl")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of runs with a finished one, and that one."""
    runs = tmp_path_factory.mktemp("whole") / "runs"
    return runs, run_here(runs)[0]


@pytest.mark.timeout(1200)
def test_a_torn_last_line_is_done_again(whole: tuple[Path, Path], tmp_path: Path) -> None:
    runs, first = whole
    rng, tried, held = random.Random(SEED), count(quick=2, full=40), 0
    failures: list[str] = []
    for number in range(tried):
        folder = tmp_path / str(number)
        shutil.copytree(runs, folder)
        run = folder / first.relative_to(runs)
        path = file_of(run, FILES[number % 2])
        content = path.read_bytes()
        start = content[:-1].rfind(b"\n") + 1
        cut = rng.randrange(start + 1, len(content) - 1) if number % 4 < 2 else len(content) - 1
        path.write_bytes(content[:cut])
        if path.name == "samples.jsonl":
            (run / "scores.jsonl").unlink()
        run_here(folder)
        wrong = [
            f"{name} differs"
            for name in (*FILES, "results.json", "values.jsonl")
            if unnamed(file_of(run, name)) != unnamed(file_of(first, name))
        ]
        held += not wrong
        failures += [f"seed {SEED}, {path.name} cut at {cut} of {len(content)}: {one}" for one in wrong]
    publish(
        Row(
            area="runs",
            fault="torn last line of samples.jsonl or scores.jsonl",
            requirement="dropped and done again: the files and the results are the same bytes",
            tried=tried,
            held=held,
            note="half of them lack only the end of the line",
        ),
        failures,
    )


@pytest.mark.timeout(1200)
def test_a_torn_middle_line_is_refused_with_its_number(whole: tuple[Path, Path], tmp_path: Path) -> None:
    runs, first = whole
    rng, tried, held = random.Random(SEED), count(quick=2, full=40), 0
    failures: list[str] = []
    for number in range(tried):
        folder = tmp_path / str(number)
        shutil.copytree(runs, folder)
        run = folder / first.relative_to(runs)
        path = file_of(run, FILES[number % 2])
        lines = path.read_bytes().splitlines()
        place = rng.randrange(len(lines) - 1)
        cut = rng.randrange(len(lines[place]))
        lines[place] = lines[place][:cut]
        path.write_bytes(b"\n".join(lines) + b"\n")
        torn, results = path.read_bytes(), first / "results.json"
        try:
            run_here(folder)
            said = "nothing"
        except Refused as error:
            said = str(error)
        intact = path.read_bytes() == torn and (run / "results.json").read_bytes() == results.read_bytes()
        if re.match(rf"line {place + 1} of \S*{path.name} ", said) and intact:
            held += 1
        else:
            failures.append(f"seed {SEED}, line {place + 1} of {path.name} cut at {cut}: it says {said!r}")
    publish(
        Row(
            area="runs",
            fault="torn middle line of samples.jsonl or scores.jsonl",
            requirement="refused with the line's number (exit 4), and nothing is changed",
            tried=tried,
            held=held,
        ),
        failures,
    )
