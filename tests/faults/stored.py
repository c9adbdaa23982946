"""What a run left on disk, for comparing it with one that nothing happened to."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from processes import SMALL, call

from star_bench.runs.pictures import PICTURES

PLANNED = 8
"""Pictures of `SMALL`."""
BATCH = 2


def one_run(folder: Path) -> Path:
    """The only run below a folder."""
    (manifest,) = (path for path in folder.glob("runs/*/*/*/manifest.json") if path.parts[-3] != PICTURES)
    return manifest.parent


def pictures_in(folder: Path) -> Path:
    """The only set of pictures below a folder, begun or not."""
    (found,) = folder.glob(f"runs/*/{PICTURES}/*")
    return found


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
    drawn, again = pictures_in(undisturbed), pictures_in(folder)
    files = [(first, second, name) for name in ("results.json", "values.jsonl", "prompts.jsonl")]
    files += [(drawn, again, path.relative_to(drawn).as_posix()) for path in sorted(drawn.glob("images/*/*"))]
    out += [
        f"{name} has other bytes"
        for one, other, name in files
        if not (other / name).is_file() or (one / name).read_bytes() != (other / name).read_bytes()
    ]
    for name, places in (("samples.jsonl", (drawn, again)), ("scores.jsonl", (first, second))):
        lines = [sorted(unnamed(place / name).splitlines()) for place in places]
        if lines[0] != lines[1]:  # also where a picture was made or scored twice
            out.append(f"{name} has other rows")
    pages = [next(place.glob("reports/*/index.html")) for place in (undisturbed, folder)]
    if pages[0].read_bytes() != pages[1].read_bytes():
        out.append("the report's page has other bytes")
    return out
