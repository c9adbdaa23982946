"""A judge is a plugin: it may never answer. It is waited for in another thread, and not for ever."""

from __future__ import annotations

import math
import os
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from star_bench.errors import UsageError

VARIABLE = "STAR_BENCH_JUDGE_TIMEOUT"
DEFAULT = 600.0  # seconds for a picture, chosen here: the slowest judge on a CPU takes some 3 s

Result = TypeVar("Result")


def limit() -> float:
    """Seconds that a judge has for each picture: what STAR_BENCH_JUDGE_TIMEOUT says, or 600. Raises UsageError."""
    text = os.environ.get(VARIABLE) or str(DEFAULT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise UsageError(f"{VARIABLE} is {text!r}, no number of seconds", "give a number above 0, or unset it")
    return seconds


class Patience:
    """Calls work in a thread of its own, always the same, since what torch sets up for a new one takes a tenth of a batch.

    Once it did not come back in time nothing more is handed to it: the thread can't be stopped, and may hold the
    accelerator. The thread is a daemon, so that the process ends without it.
    """

    def __init__(self, seconds: float) -> None:
        """seconds: for each picture, so that no batch is too large for a judge that is well."""
        self.seconds = seconds
        self._lost_after: float | None = None
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(self._asked,), name="judge", daemon=True).start()
        weakref.finalize(self, self._asked.put, None)

    def of(self, pictures: int) -> float:
        """Seconds that work on so many pictures has."""
        return min(self.seconds * pictures, threading.TIMEOUT_MAX)

    def __call__(self, work: Callable[[], Result], pictures: int) -> Result:
        """What the work, on so many pictures, returns or raises. Raises TimeoutError, in words, where it does not come
        back."""
        if self._lost_after is not None:
            raise TimeoutError(f"the judge did not answer within {self._lost_after:g} s before")
        seconds = self.of(pictures)
        answers: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()

        def call() -> None:
            try:
                answers.put((work(), None))
            except BaseException as error:  # noqa: BLE001 - told to the one who waits, whatever it is
                answers.put((None, error))

        self._asked.put(call)
        try:
            found, error = answers.get(timeout=seconds)
        except queue.Empty:
            self._lost_after = seconds
            raise TimeoutError(f"the judge did not answer within {seconds:g} s") from None
        if isinstance(error, Exception | KeyboardInterrupt):
            raise error
        if error is not None:  # SystemExit, which must not end the run
            raise RuntimeError(f"the judge raised {type(error).__name__}") from error
        result: Result = found
        return result


def _serve(asked: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    """Does what is asked, until that is None."""
    while (call := asked.get()) is not None:
        call()
        del call  # and the pictures that it holds
