"""What a run left on disk, for comparing it with one that nothing happened to."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from processes import SMALL, call

PLANNED = 8
"""Pictures of `SMALL`."""
BATCH = 2


def one_run(folder: Path) -> Path:
    """The only run below a folder."""
    (manifest,) = folder.glob("runs/*/*/*/manifest.json")
    return manifest.parent


def run_to_the_end(folder: Path, *more: str) -> float:
    """Runs `SMALL` in a folder until it is complete, and returns the seconds that it took."""
    began = time.monotonic()  # noqa: TID251 - says when to kill; nothing is asserted of it
    done = call(folder, "run", *SMALL, *more)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began  # noqa: TID251 - as above


def rows(path: Path) -> list[dict[str, object]]:
    """Of a JSONL file that may be cut off anywhere or not be there."""
    whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    return [json.loads(line) for line in whole]


def unnamed(path: Path) -> str:
    """A file's text without the sessions that its rows name, which are another one's where a run was gone on with."""
    return re.sub(r', "session": \d+\}', "}", path.read_text())


def differences(undisturbed: Path, folder: Path) -> list[str]:
    """What of the run below `folder` is not as in the one below `undisturbed`, and what was left lying about."""
    first, second = one_run(undisturbed), one_run(folder)
    out = [f"{path} is left" for path in folder.rglob("*.partial")]
    names = [path.relative_to(first).as_posix() for path in sorted(first.glob("images/*/*"))]
    out += [
        f"{name} has other bytes"
        for name in ("results.json", "values.jsonl", "prompts.jsonl", *names)
        if not (second / name).is_file() or (first / name).read_bytes() != (second / name).read_bytes()
    ]
    for name in ("samples.jsonl", "scores.jsonl"):
        lines = [sorted(unnamed(run / name).splitlines()) for run in (first, second)]
        if lines[0] != lines[1]:  # also where a picture was made or scored twice
            out.append(f"{name} has other rows")
    pages = [next(place.glob("reports/*/index.html")) for place in (undisturbed, folder)]
    if pages[0].read_bytes() != pages[1].read_bytes():
        out.append("the report's page has other bytes")
    return out
