"""Work that does not fit into memory is tried again with half as many items at a time, down to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from star_bench.memory import free_memory, is_out_of_memory

Work = TypeVar("Work")
Result = TypeVar("Result")


@dataclass(frozen=True)
class OutOfMemory:
    """In place of the result of an item that does not fit even alone."""

    reason: str


class Halving:
    """Does work on batches, in parts of at most `size` items; the size halves when a part does not fit, and stays."""

    def __init__(self, title: str, note: Callable[[str], None]) -> None:
        """title: what the batches are for, in a sentence that the user reads."""
        self.size: int | None = None
        self._title, self._note = title, note

    def __call__(self, work: Callable[[list[Work]], Sequence[Result]], batch: list[Work]) -> list[Result | OutOfMemory]:
        """One result per item, in order. Raises what the work raises, but for being out of memory."""
        out: list[Result | OutOfMemory] = []
        while len(out) < len(batch):
            part = batch[len(out) : len(out) + (self.size or len(batch))]
            try:
                done = work(part)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
            else:
                if len(done) != len(part):
                    raise ValueError(f"there are {len(done)} results for {len(part)} pictures")
                out += done
                continue
            # Here, and not above: an error that is being handled keeps all that the work had in memory.
            free_memory()
            if len(part) == 1:
                out.append(OutOfMemory(f"out of memory with a single picture ({reason})"))
            else:
                self.size = len(part) // 2
                self._note(
                    f"{self._title} {len(part)} pictures at a time needs too much memory; going on with {self.size}"
                )
        return out
