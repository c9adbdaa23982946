"""What this process does while a test looks: files opened, hosts asked, by Python's audit events.

So a test can say what must not happen, where a clock would say how busy the machine is. The events and their arguments:
docs.python.org/3/library/audit_events.html.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_listening: list[tuple[str, list[tuple[Any, ...]]]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    for wanted, heard in _listening:
        if event == wanted:
            heard.append(arguments)


sys.addaudithook(_hear)  # for good: there is no way to take one back


@contextlib.contextmanager
def heard(event: str) -> Iterator[list[tuple[Any, ...]]]:
    """The arguments of each such event, in any thread, until the block ends."""
    entry: tuple[str, list[tuple[Any, ...]]] = (event, [])
    _listening.append(entry)
    try:
        yield entry[1]
    finally:
        _listening.remove(entry)


@contextlib.contextmanager
def opened(below: Path) -> Iterator[list[Path]]:
    """The files below a folder that are opened, once for each time, until the block ends. Safetensors' own reading is
    not seen, that of a digest is."""
    found: list[Path] = []
    with heard("open") as events:
        yield found
    paths = [Path(path) for path, *_ in events if isinstance(path, str | Path)]
    found += [path for path in paths if path.is_relative_to(below)]
