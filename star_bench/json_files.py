"""JSON and JSON Lines that this process did not write: one reader, bounded in every direction, with one way to fail.

A file may come from a stranger, or from a disk that lost a part of it. NaN and infinities, which JSON does not have and
Python's parser takes, are refused; so are nesting that later steps could not walk, and files and lines larger than any that
star-bench writes: a line is never read further than its bound.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from star_bench.errors import Refused

# Bounds, all chosen here; the largest line of a run of 2,212 images is some 10 kB, its largest file some 5 MB.
MAX_LINE = 8 << 20  # bytes
MAX_FILE = 256 << 20  # bytes
MAX_DEPTH = 64
RESTORE = "the file was changed by something else: restore it, or delete this run's folder and run again"


def parse_json(content: str | bytes) -> Any:
    """The value. Raises ValueError, in words, for anything but finite, moderately nested JSON in UTF-8."""
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    return value


def read_json(path: Path, remedy: str = "score the run again") -> Any:
    """The value that a JSON file holds. Raises FileNotFoundError where there is none, else Refused, with the file."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise ValueError(f"it is larger than {MAX_FILE >> 20} MiB")
        return parse_json(content)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise Refused(f"{path} can't be read ({error})", remedy) from None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of an append-only JSONL file; a torn last line (a kill while writing) is dropped.

    Raises Refused, with the line's number, for a broken line that is not the last, and for a file or a line that is too
    large.
    """
    try:
        with path.open("rb") as file:
            return [_row(line, f"line {number} of {path}") for number, line in _whole_lines(file, path)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Refused(f"{path} can't be read ({error.strerror or error})", RESTORE) from None


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise Refused(f"{where} is broken though it is not the last ({error})", RESTORE) from None
    if not isinstance(row, dict):
        raise Refused(f"{where} is broken though it is not the last (it is no object)", RESTORE)
    return row


def _whole_lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Each line that is ended, with its number from 1. Raises Refused at the first that is too long."""
    total = number = 0
    while line := file.readline(MAX_LINE + 1):
        number, total = number + 1, total + len(line)
        if len(line) > MAX_LINE:
            raise Refused(f"line {number} of {path} is longer than {MAX_LINE >> 20} MiB", RESTORE)
        if total > MAX_FILE:
            raise Refused(f"{path} is larger than {MAX_FILE >> 20} MiB", RESTORE)
        if line.endswith(b"\n"):
            yield number, line


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            part
            for outer in level
            if isinstance(outer, dict | list)
            for part in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(part, dict | list)
        ]
        if not level:
            return
    raise ValueError("it is nested too deeply")
