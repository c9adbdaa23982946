"""The zip of `star-bench doctor --bundle`: what a maintainer needs to know of a machine and its last runs, and nothing else.

No picture, score or weights, and no prompt but one that an error in a log is about; what could be a secret is taken out.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from star_bench.errors import StarBenchError
from star_bench.files.atomic import replacing, to_json
from star_bench.files.json import read_json
from star_bench.files.scrub import scrub, scrub_all
from star_bench.runs.log import LOG

RUNS = 10
"""The last ones (chosen here)."""
LINES = 400
"""Of each log, from its end (chosen here: a run of 2,212 pictures has about 600)."""
LEFT_OUT = ("prompts",)
"""Of a manifest: a private suite's prompts are nobody's business."""


def write_bug_report(out: Path, examined: dict[str, Any], runs: Path) -> list[tuple[str, int]]:
    """Writes the zip. Returns the names in it with their sizes in bytes.

    examined: what `doctor.examine` found. runs: where runs are kept; none need be there. Raises DiskError.
    """
    held = []
    with replacing(out) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in _entries(examined, runs):
            file.writestr(name, content)
            held.append((name, len(content)))
    return held


def _entries(examined: dict[str, Any], runs: Path) -> Iterator[tuple[str, bytes]]:
    yield "doctor.json", to_json(scrub_all(examined))
    yield "packages.txt", "".join(f"{line}\n" for line in sorted(_packages())).encode()
    for folder in _last_runs(runs):
        place = f"runs/{folder.relative_to(runs).as_posix()}"
        yield f"{place}/manifest.json", to_json(_manifest(folder))
        if (folder / LOG).is_file():
            yield f"{place}/{LOG}", _tail(folder / LOG)


def _packages() -> set[str]:
    return {f"{each.metadata['Name']}=={each.version}" for each in metadata.distributions()}


def _last_runs(runs: Path) -> list[Path]:
    """The newest by what was last written to their logs or manifests, newest first."""
    manifests = [path for path in runs.glob("*/*/*/manifest.json") if path.is_file()]
    ranked = sorted(manifests, key=lambda path: max(_written(path), _written(path.with_name(LOG))), reverse=True)
    return [path.parent for path in ranked[:RUNS]]


def _written(path: Path) -> float:
    return path.stat().st_mtime if path.is_file() else 0.0


def _manifest(folder: Path) -> Any:
    """Scrubbed, with how many prompts there are in place of them; what is wrong with one that can't be read."""
    try:
        manifest = read_json(folder / "manifest.json")
    except StarBenchError as error:
        return {"unreadable": scrub(str(error))}
    if not isinstance(manifest, dict):
        return {"unreadable": "it is no object"}
    counts = {f"number of {name}": len(manifest[name]) for name in LEFT_OUT if isinstance(manifest.get(name), list)}
    return scrub_all({key: value for key, value in manifest.items() if key not in LEFT_OUT} | counts)


def _tail(path: Path) -> bytes:
    """The last LINES of a log. They were scrubbed when they were written, and are again: what is secret may have changed."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:]
    return "".join(f"{_scrubbed(line)}\n" for line in lines).encode()


def _scrubbed(line: str) -> str:
    try:
        return json.dumps(scrub_all(json.loads(line)), ensure_ascii=False)
    except (ValueError, RecursionError):
        return scrub(line)
