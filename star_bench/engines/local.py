"""The engine that runs work in this process, batch after batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def run_local(make_worker: Callable[[], Callable[[Batch], Result]], batches: Iterable[Batch]) -> Iterator[Result]:
    """Yields worker(batch) for each batch, in order; the worker is made once, when the first batch comes."""
    worker: Callable[[Batch], Result] | None = None
    for batch in batches:
        worker = worker or make_worker()
        yield worker(batch)
