"""Work on a thread of its own beside the caller's, so that a device need not wait for files and verdicts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def beside(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """work(item) of each, in order: on a thread, while the caller's makes the next item. Raises what the work raises.

    Whatever ends it, the work on every item that was made is done first.
    """
    begun: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="beside") as thread:
        thread.submit(int)  # starts the thread while there is memory for it
        for item in items:
            begun.append(thread.submit(work, item))
            if len(begun) > 1:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items, in order: each is made on a thread while the caller works on the one before. Raises what making one
    raises."""
    rest = iter(items)

    def make() -> list[Item]:
        return list(islice(rest, 1))

    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        coming = thread.submit(make)
        while made := coming.result():
            coming = thread.submit(make)
            yield made[0]
