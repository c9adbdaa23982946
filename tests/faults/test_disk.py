"""A full disk at each write: what was there stays whole, the path is named, and the run goes on when there is room."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from figures import FULL, Row, publish
from processes import SMALL, call, environment
from stored import PLANNED, differences, one_run, pictures_in

from star_bench.files.atomic import DiskError

RENAMED = ("manifest.json", "prompts.jsonl", "images/00000/0.png", "values.jsonl", "results.json")
APPENDED = ("samples.jsonl", "scores.jsonl")


def _report(folder: Path) -> Path:
    (page,) = folder.glob("reports/*/index.html")
    return page.parent


def _unfinished(undisturbed: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of the undisturbed run as it was before anything was generated, in a folder of its own; and where its pictures
    were."""
    shutil.copytree(undisturbed, folder)
    run, drawn = one_run(folder), pictures_in(folder)
    for place in (run, drawn):
        for path in place.iterdir():
            if path.name not in ("manifest.json", "lock") or (place == drawn and path.name == "manifest.json"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(folder / "reports")
    return run, drawn


def _full(path: Path) -> None:
    """Makes the system say that the disk is full when what will become `path` is written beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f".{path.name}.partial").symlink_to("/dev/full")


def _grown(path: Path, row: str) -> None:
    """Makes a JSONL file larger than all others of a run, by a row many times over."""
    path.write_text((row + "\n") * (1_000_000 // len(row)))


def _limited(folder: Path, largest: int) -> subprocess.CompletedProcess[str]:
    """The run in a process whose files can't grow beyond `largest` bytes: a write is then cut off in its middle."""
    return subprocess.run(
        [sys.executable, "-m", "star_bench", "run", *SMALL],
        cwd=folder,
        env=environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest)),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_at_each_write(undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    untouched = undisturbed[0]
    pages = sorted(path.relative_to(_report(untouched)).as_posix() for path in _report(untouched).rglob("*.*"))
    report = [name for name in pages if "/" not in name] + [name for name in pages if "/" in name][:1]
    wanted = [*RENAMED, *APPENDED, *(f"reports/{name}" for name in report)]
    if not FULL:
        wanted = ["samples.jsonl"]
    held, failures = 0, []
    for number, name in enumerate(wanted):
        folder = tmp_path / str(number)
        (run, drawn), wrong = _unfinished(untouched, folder), []
        place = drawn if name == "samples.jsonl" or name.startswith("images/") else run
        if name in APPENDED:
            row = (
                ((pictures_in(untouched) if place == drawn else one_run(untouched)) / name).read_text().splitlines()[0]
            )
            if name == "samples.jsonl":  # its picture has to be there, or it is made again
                shutil.copytree(pictures_in(untouched) / "images", drawn / "images")
            else:
                row = row.replace('"status": "ok"', '"status": "error"').replace('"k": 0', '"k": 1')
            _grown(place / name, row)
            path = place / name
            done = _limited(folder, path.stat().st_size + len(row))
        else:
            path = place / name
            if name.startswith("reports/"):
                path = folder / "reports" / _report(untouched).name / name.removeprefix("reports/")
            _full(path)
            done = call(folder, "run", *SMALL)
        where = path.relative_to(folder).as_posix()
        if done.returncode != DiskError.exit_code or f"{where} could not be written" not in done.stderr:
            wrong.append(f"exit code {done.returncode}, and it says {done.stderr.strip()[-300:]!r}")
        if name in RENAMED and name != "manifest.json" and path.exists():
            wrong.append("a part of it was published")
        wrong += [f"{left} is left" for left in folder.rglob("*.partial")]
        if name in APPENDED:  # room again, without the rows that only took it away
            lines = path.read_bytes().split(b"\n")
            path.write_bytes(b"\n".join([line for line in lines[:-1] if line.decode() != row] + [lines[-1]]))
        again = call(folder, "run", *SMALL)
        wrong += [again.stderr] if again.returncode else differences(untouched, folder)
        held += not wrong
        failures += [f"{name}: {one}" for one in wrong]
    publish(
        Row(
            area="runs",
            fault="disk full at each write of a run",
            requirement="no partial file is published, the message names the path, exit 3, goes on to the same bytes",
            tried=len(wanted),
            held=held,
            note=f"each in turn: {', '.join(wanted)}; {PLANNED} pictures",
        ),
        failures,
    )
