"""Too little memory: batches halve down to one, pictures stay what they are, and one that does not fit is an error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import install, run_here
from figures import FULL, Row, publish
from processes import environment

from star_bench.files.pictures import decode_image
from star_bench.runs.finished import pictures_folder

REAL = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from engines import run_here
size, limit = map(int, sys.argv[3:])
folder, results, said = run_here(Path(sys.argv[2]), engine="tight", batch_size=size, limit=limit, samples=1)
print(json.dumps({"folder": str(folder), "results": results, "said": said}))
"""


def _compare(first: Path, second: Path) -> tuple[int, int, list[str]]:
    """How many pictures there are, how many have the same bytes, and what is not the same."""
    wrong = []
    if (first / "results.json").read_bytes() != (second / "results.json").read_bytes():
        wrong.append("results.json has other bytes")
    drawn = [pictures_folder(run) for run in (first, second)]
    same, names = 0, [path.relative_to(drawn[0]) for path in sorted(drawn[0].glob("images/*/*.png"))]
    for name in names:
        one, other = ((folder / name).read_bytes() for folder in drawn)
        same += one == other
        difference = np.abs(decode_image(one).astype(int) - decode_image(other)).max()
        if difference > 1:
            wrong.append(f"{name} differs by {difference} of 255")
    return len(names), same, wrong


def _said(before: int, after: int) -> str:
    return f"generating {before} pictures at a time needs too much memory; going on with {after}"


def test_memory_that_really_ends(tmp_path: Path) -> None:
    """The system refuses the process more memory while it generates."""
    size, limit = (64, 64) if FULL else (32, 32)
    install(tmp_path)
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", REAL, here, str(tmp_path / "tight"), str(size), str(limit)],
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    sizes = [s for s in (64, 32, 16, 8, 4, 2) if _said(s, s // 2) in told["said"]]
    assert sizes and sizes == [size >> i for i in range(len(sizes))], told["said"]
    smallest = min(sizes) // 2
    same, _, _ = run_here(tmp_path / "roomy", batch_size=smallest, limit=limit, samples=1)
    pictures, equal, wrong = _compare(same, Path(told["folder"]))
    publish(
        Row(
            area="runs",
            fault="out of memory while generating: the system gives no more",
            requirement="the batch halves until it fits, with a note each time; results.json is byte-identical",
            tried=pictures,
            held=pictures if told["results"]["complete"] and not wrong else 0,
            note=f"batches of {size} became {smallest}; {equal} of {pictures} pictures are byte-identical to those of a run "
            f"with batches of {smallest}, no pixel of the others differs by more than 1 of 255",
        ),
        wrong,
    )


def test_batches_halve_to_one_and_then_it_is_the_pictures_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    limit = 8  # a batch has one image of each prompt
    first, _, _ = run_here(tmp_path / "roomy", batch_size=1, limit=limit)
    ways: list[dict[str, Any]] = [{"engine": "one_at_a_time", "batch_size": 8}]
    ways += [{"engine": "one_at_a_time", "batch_size": 4}] if FULL else []
    held, failures = 0, []
    for number, way in enumerate(ways):
        second, results, said = run_here(tmp_path / str(number), limit=limit, **way)
        _, equal, wrong = _compare(first, second)
        notes = [_said(s, s // 2) for s in (8, 4, 2) if s <= way["batch_size"]]
        wrong += [] if [note for note in said if "memory" in note] == notes and results["complete"] else [str(said)]
        wrong += [] if equal == 16 else [f"{equal} of 8 pictures are byte-identical"]
        held += not wrong
        failures += wrong
    # Not even one fits: nothing is lost but those pictures, and the same command tries them again.
    third, results, _ = run_here(tmp_path / "none", engine="no_memory")
    counts = results["counts"]
    if (counts["error"], counts["ok"], results["complete"]) != (6, 2, False):
        failures.append(f"{counts}")
    rows = [json.loads(line) for line in (third / "scores.jsonl").read_text().splitlines()]
    failures += [
        f"{row}" for row in rows if row["status"] == "error" and (row["value"] is not None or not row["detail"])
    ]
    _, results, _ = run_here(tmp_path / "none", batch_size=1)
    _, equal, wrong = _compare(run_here(tmp_path / "few", batch_size=1)[0], third)
    held += results["complete"] and equal == 8 and not wrong and not failures
    publish(
        Row(
            area="runs",
            fault="out of memory with more than one picture, and with a single one",
            requirement="halves to 1 with the same noise per image (the same bytes as batches of 1); at 1 the picture is "
            "an error and the run incomplete (exit 3), and the same command makes it when there is room",
            tried=len(ways) + 1,
            held=held,
            note="torch.OutOfMemoryError, raised by an engine",
        ),
        failures,
    )
