"""Two processes and one run: the second is told at once, and a dead one never blocks."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest
from figures import Row, count, publish
from processes import SMALL, call_and_imports, start
from stored import one_run

from star_bench.errors import Locked


@pytest.mark.timeout(1200)
def test_a_second_process_is_refused_and_a_dead_holder_is_not_waited_for(tmp_path: Path) -> None:
    tried, held = count(quick=3, full=20), 0
    failures: list[str] = []
    with start(tmp_path, "run", *SMALL) as holder:
        while not list(tmp_path.glob("runs/*/ocr-miniature/*/manifest.json")):
            assert holder.poll() is None
            time.sleep(0.01)
        run = one_run(tmp_path)
        # All attempts are of one holder, which is stopped so that it is certain to live as long as they take.
        holder.send_signal(signal.SIGSTOP)
        for _ in range(tried):
            done, imported = call_and_imports(tmp_path, "run", *SMALL, "--device", "cpu")
            wrong = [f"exit code {done.returncode}"] if done.returncode != Locked.exit_code else []
            if not re.search(rf"being written by process {holder.pid} on \S+", done.stderr):
                wrong.append(f"it says {done.stderr.strip()!r}")
            if "torch" in imported:
                wrong.append("torch was loaded, which takes seconds")
            held += not wrong
            failures += wrong
        holder.kill()
        holder.communicate()
    with start(tmp_path, "run", *SMALL) as heir:
        while heir.poll() is None and f"process {heir.pid} " not in (run / "lock").read_text():
            time.sleep(0.01)
        if heir.poll() is not None:
            failures.append(f"the killed holder's lock was not taken over: {heir.communicate()[1]!r}")
        heir.kill()
        heir.communicate()
    publish(
        Row(
            area="runs",
            fault="a second process on the same run",
            requirement="exit 5 before torch is loaded, naming the holder; a killed holder's lock is taken over",
            tried=tried,
            held=held,
            note="with --device cpu; where there may be an accelerator, --device auto first asks torch for it",
        ),
        failures,
    )
