"""The log of a run or a training: log.jsonl in its folder, a JSON object per line, appended to by each call of the command.

It is for people who look for what went wrong. Nothing is computed from it, no digest is of it, and a run whose log can't be
written goes on without. A call that was killed has no last line; the next one's "started" follows.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from star_bench.errors import StarBenchError
from star_bench.files.scrub import scrub_all
from star_bench.runs.progress import Progress
from star_bench.version import __version__

LOG = "log.jsonl"
Level = Literal["info", "warning", "error"]
Event = Literal[
    "started", "stage", "advance", "note", "library", "results", "finished", "interrupted", "failed"
]  # fmt: skip
LIBRARIES = (None, "diffusers", "transformers")
"""Loggers that are listened to: the root, and those whose messages don't reach it."""


class RunLog:
    """Appends lines. time: UTC; level; event; and the event's own fields, with secrets scrubbed."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        """tell: says once that the log can't be written, and why."""
        self.path = path
        self._tell: Callable[[str], None] | None = tell

    def write(self, event: Event, level: Level = "info", **fields: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = scrub_all({"time": now, "level": level, "event": event, **fields})
        try:
            with self.path.open("a", encoding="utf-8", errors="replace") as file:
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        except OSError as error:
            if self._tell:
                self._tell(f"the log {self.path} can't be written ({error.strerror}); going on without it")
            self._tell = None


class LoggedProgress:
    """Passes everything on to where people look, and keeps it in the log."""

    def __init__(self, shown: Progress, log: RunLog) -> None:
        self._shown, self.log = shown, log
        self._done = 0

    def start(self, title: str, total: int, done: int) -> None:
        self._shown.start(title, total, done)
        self._done = done
        self.log.write("stage", title=title, total=total, done=done)

    def advance(self, count: int) -> None:
        self._shown.advance(count)
        self._done += count
        self.log.write("advance", done=self._done)

    def note(self, message: str) -> None:
        self._shown.note(message)
        self.log.write("note", message=message)


class _Handler(logging.Handler):
    """Library messages, from warnings on."""

    def __init__(self, log: RunLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level: Level = "warning" if record.levelno < logging.ERROR else "error"
        self._log.write("library", level, logger=record.name, message=record.getMessage())


@contextmanager
def _listening(log: RunLog) -> Iterator[None]:
    """What libraries log or warn of goes into the log as well as where it went before."""
    handler, show = _Handler(log), warnings.showwarning

    def both(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        log.write("library", "warning", logger=category.__name__, message=str(message), place=f"{filename}:{lineno}")
        show(message, category, filename, lineno, file, line)

    for name in LIBRARIES:
        logging.getLogger(name).addHandler(handler)
    warnings.showwarning = both
    try:
        yield
    finally:
        warnings.showwarning = show
        for name in LIBRARIES:
            logging.getLogger(name).removeHandler(handler)


@contextmanager
def recording(folder: Path, tell: Callable[[str], None], **about: Any) -> Iterator[RunLog]:
    """The log of a folder, from "started" (with `about`) to "finished", "interrupted" or "failed"."""
    log = RunLog(folder / LOG, tell)
    log.write("started", process=os.getpid(), version=__version__, command=sys.argv, **about)
    with _listening(log):
        try:
            yield log
        except (KeyboardInterrupt, SystemExit) as stop:
            log.write("interrupted", "warning", by=type(stop).__name__, code=getattr(stop, "code", None))
            raise
        except StarBenchError as error:
            log.write("failed", "error", type=type(error).__name__, message=str(error), exit_code=error.exit_code)
            raise
        except BaseException as error:
            log.write("failed", "error", type=type(error).__name__, message=str(error), trace=traceback.format_exc())
            raise
    log.write("finished")
