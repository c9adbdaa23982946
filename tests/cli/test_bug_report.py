"""What a user sends with a bug report: enough to help, and nothing that must stay at home."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from star_bench.cli.bug_report import LINES, RUNS, write_bug_report

SECRET = "hf_" + "Zx8" * 8


def make_run(runs: Path, name: str, *, lines: int = 3, when: float = 0.0) -> Path:
    folder = runs / "model" / "suite" / name
    (folder / "images/00000").mkdir(parents=True)
    (folder / "images/00000/0.png").write_bytes(b"a picture")
    manifest = {"schema": 1, "prompts": [["00000", "a secret plan", {}]], "source": {"place": f"{Path.home()}/models"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    row = {"event": "note", "message": f"with {SECRET}"}
    (folder / "log.jsonl").write_text("".join(json.dumps({**row, "n": n}) + "\n" for n in range(lines)))
    os.utime(folder / "log.jsonl", (when, when))
    os.utime(folder / "manifest.json", (when, when))
    return folder


def contents(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name).decode() for name in file.namelist()}


def test_it_holds_versions_and_the_last_runs_without_prompts_pictures_and_secrets(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for n in range(RUNS + 3):
        make_run(runs, f"{n:02d}", when=1e9 + n)
    examined = {
        "healthy": True,
        "checks": [{"check": "x", "state": "ok", "detail": f"at {Path.home()}/x with {SECRET}"}],
    }
    told = write_bug_report(tmp_path / "report.zip", examined, runs)
    held = contents(tmp_path / "report.zip")
    assert [name for name, _ in told] == list(held) and all(len(held[name].encode()) == size for name, size in told)
    assert {name.split("/")[3] for name in held if name.startswith("runs/")} == {f"{n:02d}" for n in range(3, RUNS + 3)}
    assert "torch==" in held["packages.txt"]
    everything = "\n".join(held.values())
    for hidden in (SECRET, str(Path.home()), "a secret plan", "a picture"):
        assert hidden not in everything
    assert json.loads(held["runs/model/suite/05/manifest.json"])["number of prompts"] == 1


def test_of_a_long_log_the_end_is_kept(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "one", lines=LINES + 50)
    write_bug_report(tmp_path / "report.zip", {}, tmp_path / "runs")
    rows = contents(tmp_path / "report.zip")["runs/model/suite/one/log.jsonl"].splitlines()
    assert len(rows) == LINES and json.loads(rows[-1])["n"] == LINES + 49


@pytest.mark.parametrize("content", ["", "{", "[1]", "NaN"])
def test_a_broken_manifest_is_named_and_stops_nothing(tmp_path: Path, content: str) -> None:
    folder = make_run(tmp_path / "runs", "broken")
    (folder / "manifest.json").write_text(content)
    (folder / "log.jsonl").write_text(f'{{"event": "note", "message": "{SECRET}')
    write_bug_report(tmp_path / "report.zip", {}, tmp_path / "runs")
    held = contents(tmp_path / "report.zip")
    assert "unreadable" in held["runs/model/suite/broken/manifest.json"]
    assert SECRET not in held["runs/model/suite/broken/log.jsonl"]


def test_without_any_run_it_is_written_all_the_same(tmp_path: Path) -> None:
    assert [name for name, _ in write_bug_report(tmp_path / "r.zip", {}, tmp_path / "none")] == [
        "doctor.json",
        "packages.txt",
    ]
