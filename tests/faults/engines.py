"""Engines for fault tests, as another package would bring them: too little memory, and another order of the work."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from star_bench.catalogue.protocol import GenerationSettings
from star_bench.runs.engines.local import LocalEngine, run_local
from star_bench.runs.progress import Silent
from star_bench.runs.run import Options, prepare, run

ROOM = 12 << 20
"""Bytes: more than some pictures of the miniature need, and less than 32."""
Batch = list[Any]
Work = Callable[[Batch], Sequence[Any]]


def _shuffled(make_worker: Callable[[], Work], batches: Iterable[Batch]) -> Iterator[Sequence[Any]]:
    """Every picture in another batch than it was planned in, in another order; given back as planned."""
    planned = list(batches)
    items = [item for batch in planned for item in batch]
    order = list(range(len(items)))
    Random(3).shuffle(order)
    worker, size = make_worker(), len(planned[0])
    done: dict[int, Any] = {}
    for start in range(0, len(order), size):
        places = order[start : start + size]
        done |= zip(places, worker([items[place] for place in places]), strict=True)
    place = 0
    for batch in planned:
        yield [done[place + i] for i in range(len(batch))]
        place += len(batch)


def _raising(make_worker: Callable[[], Work], batches: Iterable[Batch], fits: Callable[[Batch], bool]) -> Iterator[Any]:
    """Runs out of memory, as torch says it, inside of the work, where the batch does not fit."""
    import torch

    from star_bench.generation.sampler import Sampler

    inner = Sampler._latents

    def latents(self: Sampler, items: Sequence[Any], steps: int) -> Any:
        if not fits(list(items)):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return inner(self, items, steps)

    Sampler._latents = latents  # type: ignore[method-assign]
    try:
        yield from run_local(make_worker, batches)
    finally:
        Sampler._latents = inner  # type: ignore[method-assign]


def _one_at_a_time(make_worker: Callable[[], Work], batches: Iterable[Batch]) -> Iterator[Any]:
    """Memory for a single picture."""
    return _raising(make_worker, batches, lambda batch: len(batch) == 1)


def _no_memory(make_worker: Callable[[], Work], batches: Iterable[Batch]) -> Iterator[Any]:
    """Memory for the first prompt's pictures only."""
    return _raising(make_worker, batches, lambda batch: all(name == "00000" for name, _, _ in batch))


def _tight(make_worker: Callable[[], Work], batches: Iterable[Batch]) -> Iterator[Any]:
    """The system gives this process no more memory than a few pictures need, until the last is made."""
    import torch

    worker = make_worker()
    planned = list(batches)
    worker(planned[0][:2])  # what is loaded with the first pictures
    with suppress(RuntimeError):
        torch.empty(1 << 60)  # and what tells of an end of memory
    status = Path("/proc/self/status").read_text()
    taken = int(next(line for line in status.splitlines() if line.startswith("VmSize")).split()[1]) * 1024
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, before[1]))
    try:
        # All of it before any is given away: a thread that stores pictures has none of its memory yet, and the system ends
        # a process that has no room for a thread's own.
        made = [worker(batch) for batch in planned]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    yield from made


def _generating_by(function: Callable[..., Iterator[Any]]) -> type[LocalEngine]:
    class Faulty(LocalEngine):
        def generate(self, make_worker: Callable[[], Work], batches: Iterable[Batch]) -> Iterator[Any]:
            return function(make_worker, batches)

    return Faulty


shuffled, one_at_a_time, no_memory, tight = map(_generating_by, (_shuffled, _one_at_a_time, _no_memory, _tight))


def install(folder: Path) -> None:
    """Declares the engines of this module as an installed package's, in a folder that is on sys.path."""
    info = folder / "fault_engines-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fault-engines\nVersion: 1\n")
    names = ("shuffled", "one_at_a_time", "no_memory", "tight")
    points = "".join(f"{name} = engines:{name}\n" for name in names)
    (info / "entry_points.txt").write_text(f"[star_bench.engines]\n{points}")


class Notes(Silent):
    """Keeps what a user is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


def run_here(runs: Path, steps: int = 4, **options: Any) -> tuple[Path, dict[str, Any], list[str]]:
    """A small run in this process: its folder, its results, and what was said."""
    chosen = Options(
        **{
            "suites": ("ocr-miniature",),
            "model": "miniature",
            "limit": 4,
            "settings": GenerationSettings(steps=steps),
            "batch_size": 2,
            "device": "cpu",
            "runs": runs,
            **options,
        }
    )
    notes, prepared = Notes(), prepare(chosen)
    (results,) = run(prepared, chosen, notes)
    return prepared.parts[0].folder, results, notes.said
