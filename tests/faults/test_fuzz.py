"""Every reader of files that others made, given changed copies of valid ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from figures import Row, count, publish
from processes import environment
from stored import one_run

SEED = 20_260_713


@pytest.mark.timeout(3600)
def test_no_changed_file_gets_anything_but_a_sentence_out_of_a_reader(
    tmp_path: Path, undisturbed: tuple[Path, float]
) -> None:
    script, inputs = Path(__file__).with_name("fuzzing.py"), count(quick=3_000, full=110_000)
    room = tmp_path / "room"
    room.mkdir()
    words = [sys.executable, str(script), str(room), str(one_run(undisturbed[0])), str(inputs), str(SEED)]
    more = {"STAR_BENCH_CACHE": str(room / "inside" / "cache")}
    done = subprocess.run(words, env=environment(**more), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"seed {SEED}: {done.stderr[-2000:]}"
    said = json.loads(done.stdout)
    note = f"slowest {said['slowest'][0]:.2f} s of CPU time ({said['slowest'][1]}), peak {said['peak_mib']} MiB"
    held = said["tried"] - len(said["escaped"])
    requirement = "no crash, each read to an end, no gigabyte more, no file outside"
    publish(Row("inputs", "changed files for every reader", requirement, said["tried"], held, note), said["escaped"])
