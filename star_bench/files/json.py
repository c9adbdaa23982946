"""Text, JSON and JSON Lines that this process did not write: one reader of each, bounded in every direction, with one way
to fail.

`read_objects` takes what people and other tools write, `read_rows` only what star-bench itself does. A file may come from
a stranger, or from a disk that lost a part of it. NaN and infinities, which JSON does not have and Python's parser takes,
are refused; so are nesting that later steps could not walk, and files and lines larger than any that star-bench writes: a
line is never read further than its bound. Only `read_config` takes such numbers: a model's library writes them.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from star_bench.errors import Refused, UsageError

# Bounds, all chosen here; the largest line of a run of 2,212 images is some 10 kB, its largest file some 5 MB.
MAX_LINE = 8 << 20  # bytes
MAX_FILE = 256 << 20  # bytes
MAX_DEPTH = 64
BLANK = "\ufeff" + "".join(chr(c) for c in range(0x3001) if chr(c).isspace())
"""White space, and the byte order mark that is left inside where files were joined."""
MEND = "mend that line"
RESTORE = "the file was changed by something else: restore it, or delete this run's folder and run again"


def parse_json(content: str | bytes, *, finite: bool = True) -> Any:
    """The value. Raises ValueError, in words, for anything but moderately nested JSON in UTF-8, and for NaN and infinities
    where it is to be finite."""
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite) if finite else json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    return value


def read_text(path: Path) -> str:
    """UTF-8, with or without a byte order mark; every line end is a line feed. Raises UsageError where it can't be read."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MAX_FILE + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read ({error})", "check that it is a readable UTF-8 file") from None
    if len(text) > MAX_FILE:
        raise UsageError(f"{path} is larger than {MAX_FILE >> 20} MiB", "give the file that was meant, or a part of it")
    return text


@dataclass(frozen=True)
class Written:
    """A JSON object in somebody's file. number: of its first line, from 1, or its place in an array; where: the file and
    that, in words; text: its JSON."""

    number: int
    where: str
    text: str
    value: dict[str, Any]


def read_objects(path: Path, example: str) -> list[Written]:
    """All objects of a file, at least one: one per line, indented over several, or in one array; blank lines are free.

    Raises UsageError for a file that can't be read or holds none, with the line for one that is broken. example: what to
    write, in words.
    """
    text = read_text(path)
    found = list(_elements(path, text) if text.lstrip(BLANK).startswith("[") else _values(path, text))
    if not found:
        raise UsageError(f"{path} is empty", example)
    if strange := next((each for each in found if not isinstance(each.value, dict)), None):
        raise UsageError(f"{strange.where}: it is no JSON object", example)
    return found


def _elements(path: Path, text: str) -> Iterator[Written]:
    try:
        values = parse_json(text.strip(BLANK))
    except ValueError as error:
        raise UsageError(f"{path} is invalid JSON ({error})", MEND) from None
    for number, value in enumerate(values, start=1):
        yield Written(number, f"{path}, item {number}", json.dumps(value), value)


def _values(path: Path, text: str) -> Iterator[Written]:
    place, line, last = 0, 1, 0
    while (start := _NO_BLANK.search(text, place)) is not None:
        line += text.count("\n", place, start.start())
        where = f"{path}, line {line}"
        if line == last:
            raise UsageError(f"{where}: something follows the JSON object", "write one object per line")
        try:
            value, end = _DECODER.raw_decode(text, start.start())
            _check_depth(value)
        except json.JSONDecodeError as error:
            at = f" at line {error.lineno}" if error.lineno != line else ""
            raise UsageError(f"{where}: invalid JSON ({error.msg}{at} column {error.colno})", MEND) from None
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise UsageError(f"{where}: invalid JSON ({reason})", MEND) from None
        yield Written(line, where, text[start.start() : end], value)
        line += text.count("\n", start.start(), end)
        place, last = end, line


def read_json(path: Path, remedy: str = "score the run again", *, finite: bool = True) -> Any:
    """The value that a JSON file holds. Raises FileNotFoundError where there is none, else Refused, with the file."""
    try:
        with path.open("rb") as file:
            # Python takes from memory what is asked for, whatever is there.
            content = file.read(min(os.fstat(file.fileno()).st_size or MAX_FILE, MAX_FILE) + 1)
        if len(content) > MAX_FILE:
            raise ValueError(f"it is larger than {MAX_FILE >> 20} MiB")
        return parse_json(content, finite=finite)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise Refused(f"{path} can't be read ({error})", remedy) from None


def read_object(path: Path, *, finite: bool = True) -> dict[str, Any]:
    """The object that a JSON file holds. Raises UsageError for a file that holds none."""
    try:
        data = read_json(path, finite=finite)
    except FileNotFoundError:
        raise UsageError(f"{path} is not there", "fetch it again") from None
    except Refused as error:
        raise UsageError(error.problem, "delete it, or fetch it again") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} holds no JSON object", "delete it, or fetch it again")
    return data


def read_config(path: Path) -> dict[str, Any]:
    """`read_object` for what diffusers, transformers, PEFT or open_clip wrote. These use Python's writer, which puts
    Infinity and NaN into JSON: every DPM++ scheduler of diffusers has lambda_min_clipped -Infinity."""
    return read_object(path, finite=False)


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


_NO_BLANK = re.compile(f"[^{re.escape(BLANK)}]")
_DECODER = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)


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
