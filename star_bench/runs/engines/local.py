"""The engine that runs work in this process, batch after batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from star_bench.errors import UsageError
from star_bench.runs.beside import ahead
from star_bench.runs.engines.base import Batch, Engine, MakeWorker, Result, Scorer, Settings, Workers


def run_local(make_worker: MakeWorker[Batch, Result], batches: Iterable[Batch]) -> Iterator[Result]:
    """Yields worker(batch) for each batch, in order; the worker is made once, when the first batch comes."""
    worker: Callable[[Batch], Result] | None = None
    for batch in batches:
        worker = worker or make_worker()
        yield worker(batch)


class LocalEngine(Engine):
    """One worker, and one stage at a time: the judge finds the memory free that the pipeline took."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if (settings.generation, settings.scoring, settings.address) != (Workers(), Workers(), None):
            raise UsageError(
                "the local engine is one worker in this process",
                "give --engine ray with --workers, --gpus or --address",
            )

    def generate(self, make_worker: MakeWorker[Any, Any], batches: Iterable[Any]) -> Iterator[Any]:
        return run_local(make_worker, batches)

    def score(self, make_worker: MakeWorker[Any, Any], batches: Iterable[Any]) -> Iterator[Any]:
        """While a batch is scored, the next one is read, on a thread."""
        return run_local(make_worker, ahead(batches))

    def scorer(self, make_worker: MakeWorker[Any, Any]) -> Scorer:
        """On a thread, which ends with the scorer."""
        worker, thread = make_worker(), ThreadPoolExecutor(1, thread_name_prefix="scorer")
        return Scorer(1, lambda batch: thread.submit(worker, batch).result)
