"""Progress on stderr: a bar where somebody watches, plain lines where nobody does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


@contextmanager
def download_bar(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar in bytes, shown from the first byte on."""
    columns = (TextColumn("{task.description:>12}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task: TaskID | None = None

        def advance(here: int, total: int | None) -> None:
            nonlocal task
            task = bars.add_task(title, total=total) if task is None else task
            bars.update(task, completed=here)

        yield advance


class RichProgress:
    """One bar per stage of a run."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:>12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.__exit__(kind, error, trace)

    def start(self, title: str, total: int, done: int) -> None:
        """A bar at the bottom, in place of an earlier one of that title."""
        if title in self._tasks:
            self._bars.remove_task(self._tasks[title])
        self._task = self._tasks[title] = self._bars.add_task(title, total=total, completed=done)

    def advance(self, count: int) -> None:
        assert self._task is not None
        self._bars.advance(self._task, count)

    def note(self, message: str) -> None:
        self.console.print(message, markup=False, highlight=False, soft_wrap=True)
