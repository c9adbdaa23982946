"""The log tells what happened to a run, and to nobody what must stay here."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from figures import Row, count, publish
from processes import SMALL, call, start
from stored import differences, one_run, pictures_in

SECRET = "hf_" + "Aq9" * 8


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (one_run(folder) / "log.jsonl").read_text().splitlines()]


def test_it_tells_of_a_kill_and_of_going_on(tmp_path: Path) -> None:
    with start(tmp_path, "run", *SMALL) as killed:
        while not list(tmp_path.glob("runs/*/*/*/images/*/*.png")):
            assert killed.poll() is None
            time.sleep(0.01)
        killed.kill()
    assert call(tmp_path, "run", *SMALL).returncode == 0
    lines = log_of(tmp_path)
    events = [line["event"] for line in lines]
    assert events.count("started") == 2 and events.count("finished") == 1 and events[-1] == "finished"
    first, second = (line for line in lines if line["event"] == "started")
    assert first["process"] == killed.pid != second["process"] and first["version"] == second["version"]
    results = next(line for line in lines if line["event"] == "results")
    assert results["complete"] and results["counts"]["ok"] == 8
    assert [line["title"] for line in lines if line["event"] == "stage"] == ["scoring"]
    drawn = [json.loads(line) for line in (pictures_in(tmp_path) / "log.jsonl").read_text().splitlines()]
    assert [line["title"] for line in drawn if line["event"] == "stage"] == ["generating", "generating"]
    assert [line["event"] for line in drawn].count("started") == 2 and drawn[-1]["event"] == "finished"
    assert all(line["time"].endswith("+00:00") and line["level"] in ("info", "warning", "error") for line in lines)


def test_secrets_and_the_home_folder_are_not_in_it(tmp_path: Path) -> None:
    home = tmp_path / "home" / "somebody"
    home.mkdir(parents=True)
    runs = home / "runs"
    done = call(tmp_path, "run", *SMALL, "--runs", str(runs), HF_TOKEN=SECRET, HOME=str(home), SECRET_WORD="generating")
    assert done.returncode == 0, done.stderr
    logs = list(runs.glob("*/*/*/log.jsonl"))
    text = "".join(log.read_text() for log in logs)
    assert len(logs) == 2
    assert SECRET not in text and str(home) not in text and "~/runs" in text
    assert "generating" not in text, "the value of a variable whose name says that it is a secret"


def test_a_log_that_cant_be_written_stops_nothing(undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    tried, failures = 0, []
    for kind in ("folder", "full disk")[: count(quick=1, full=2)]:
        tried += 1
        folder = tmp_path / kind
        folder.mkdir()
        with start(folder, "run", *SMALL) as begun:  # the folder's name is known once it is there
            while not list(folder.glob("runs/*/pictures/*/log.jsonl")):
                assert begun.poll() is None
                time.sleep(0.01)
            begun.kill()
        log = one_run_log(folder)
        log.unlink()
        if kind == "folder":
            log.mkdir()
        else:
            log.symlink_to("/dev/full")
        done = call(folder, "run", *SMALL)
        if done.returncode or done.stderr.count("can't be written") != 1:
            failures.append(f"{kind}: exit code {done.returncode}, {done.stderr[-300:]}")
        failures += [f"{kind}: {what}" for what in differences(undisturbed[0], folder)]
    publish(
        Row(
            area="runs",
            fault="a log that can't be written (a folder in its place, a full disk)",
            requirement="said once; the run and its results are as without",
            tried=tried,
            held=tried - len({failure.split(":")[0] for failure in failures}),
        ),
        failures,
    )


def one_run_log(folder: Path) -> Path:
    (log,) = folder.glob("runs/*/ocr-miniature/*/log.jsonl")
    return log
