"""What star-bench remembers between runs: one folder, JSON mappings that are replaced by rename."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import platformdirs

from star_bench.files.json import read_object

log = logging.getLogger(__name__)

CACHE_VARIABLE = "STAR_BENCH_CACHE"


def cache_folder() -> Path:
    """Where fetched and remembered files are kept: STAR_BENCH_CACHE, or the platform's cache folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("star-bench", appauthor=False))


def recall(name: str) -> dict[str, Any]:
    """A remembered mapping, empty at first."""
    path = cache_folder() / name
    return read_object(path) if path.is_file() else {}


def remember(name: str, news: dict[str, Any]) -> None:
    """Adds `news` to a remembered mapping, by rename. A cache folder that can't be written costs time, not truth."""
    folder = cache_folder()
    partial = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = recall(name)
        if all(known.get(key) == value for key, value in news.items()):
            return
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".partial", delete=False, encoding="utf-8") as file:
            partial = Path(file.name)
            json.dump(known | news, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, folder / name)
    except OSError as error:
        log.warning("%s can't be written (%s): it will be worked out again", folder / name, error)
        if partial is not None:
            partial.unlink(missing_ok=True)
