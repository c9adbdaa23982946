"""Where long work reports to."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What a command line shows, and a log keeps."""

    def start(self, title: str, total: int, done: int) -> None: ...
    def advance(self, count: int) -> None: ...
    def note(self, message: str) -> None: ...


class NotesOnly:
    """Of a stage that goes on beside the one that is shown."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    def start(self, title: str, total: int, done: int) -> None: ...
    def advance(self, count: int) -> None: ...

    def note(self, message: str) -> None:
        self._shown.note(message)


class Silent:
    """Progress that nobody reads, such as that of processes beside the first, which speaks for all."""

    def start(self, title: str, total: int, done: int) -> None: ...
    def advance(self, count: int) -> None: ...
    def note(self, message: str) -> None: ...
