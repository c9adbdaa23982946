"""The engine that runs work on Ray: a pool of generation workers and one of scoring workers, here or on a cluster.

Workers are Ray actors that load what they need once. The two stages are chained lazily: scoring pulls pictures as it has
room for them, and generation makes no more than scoring can take. All files are written by the process that asked.

Every machine needs the same star-bench, and the checkpoint and the judges at the same paths. Ray passes work and results as
pickles, so a cluster must be one that you trust.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle, islice
from types import TracebackType
from typing import Any, Self

from star_bench.errors import Incomplete, UsageError
from star_bench.runs.engines.base import Engine, MakeWorker, Scorer, Settings, Wait, Workers

RETRIES = 3
"""How often a batch is given to a new worker after it took one with it (chosen here: bad luck ends before that)."""
AHEAD = 2
"""Batches that a worker has at a time: one that it works on, and one that waits, so that it never waits itself."""
GENERATION_GPUS, SCORING_GPUS = 0.75, 0.25
"""Of each worker, chosen here: one of both kinds fits on a GPU."""
PATIENCE = 5.0  # seconds, chosen here
PASSED_ON = ("STAR_BENCH_", "HF_")
"""Variables of this process' environment that workers get, by how they begin."""


class RayEngine(Engine):
    """Starts Ray on this machine, or joins the cluster at the address, and leaves as it came."""

    remote = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if importlib.util.find_spec("ray") is None:
            raise UsageError("the engine 'ray' needs Ray, which is not installed", "pip install 'star-bench[ray]'")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers of every start
        self._started = False
        self._taken = {"GPU": 0.0, "CPU": 0.0}

    def __enter__(self) -> Self:
        import ray

        generation, scoring = self._stage(self.settings.generation), self._stage(self.settings.scoring)
        said: dict[str, Any] = {"address": self.settings.address}
        if self.settings.address is None:
            # As many workers as asked for, whatever the number of cores.
            workers = (generation.count or 0) + (scoring.count or 0)
            said = {
                "address": "local",
                "num_cpus": max(os.cpu_count() or 1, workers),
                "include_dashboard": False,
            }
        else:
            _check_reachable(self.settings.address)
        try:
            ray.init(**said, runtime_env={"env_vars": _environment()}, logging_level="warning")
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = self.settings.address or "this machine"
            raise UsageError(
                f"Ray can't be started or reached at {where} ({_line(error)})",
                "see --address, and set RAY_AUTH_MODE=token if the cluster asks for its token",
            ) from None
        self._started = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        if self._started:
            ray.shutdown()

    def generate(self, make_worker: MakeWorker[Any, Any], batches: Iterable[Any]) -> Iterator[Any]:
        return self._map(make_worker, batches, self.settings.generation, GENERATION_GPUS)

    def score(self, make_worker: MakeWorker[Any, Any], batches: Iterable[Any]) -> Iterator[Any]:
        return self._map(make_worker, batches, self.settings.scoring, SCORING_GPUS)

    def _stage(self, asked: Workers) -> Workers:
        """On a CPU a stage has one worker, unless more are asked for."""
        on_gpu = self.settings.device != "cpu"
        return Workers(asked.count or (None if on_gpu else 1), asked.gpus if on_gpu else 0.0)

    def _map(
        self, make_worker: MakeWorker[Any, Any], batches: Iterable[Any], asked: Workers, share: float
    ) -> Iterator[Any]:
        actors, each = self._start(make_worker, asked, share)

        def results() -> Iterator[Any]:
            try:
                yield from _in_order(actors, batches)
            finally:
                for kind, taken in each.items():
                    self._taken[kind] -= len(actors) * taken

        return results()

    def scorer(self, make_worker: MakeWorker[Any, Any]) -> Scorer:
        """Batches go to the workers in turn."""
        actors, _ = self._start(make_worker, self.settings.scoring, SCORING_GPUS)
        turn = cycle(actors)

        def submit(batch: Any) -> Wait:
            ref = next(turn).work.remote(batch)
            return lambda: _result(ref)

        return Scorer(len(actors), submit)

    def _start(
        self, make_worker: MakeWorker[Any, Any], asked: Workers, share: float
    ) -> tuple[list[Any], dict[str, float]]:
        """A stage's actors, and what each takes of a machine. Raises UsageError where there is no room for all."""
        import ray

        stage = self._stage(asked)
        share = share if stage.gpus is None else stage.gpus
        count = stage.count or max(1, int(ray.cluster_resources().get("GPU", 0)))
        cores = 0 if share else 1  # where there is a GPU to wait for, it is what limits
        each = {"GPU": share, "CPU": float(cores)}
        self._take_room(count, each)
        actor = ray.remote(num_cpus=cores, num_gpus=share, max_restarts=-1, max_task_retries=RETRIES)(RayWorker)
        return [actor.remote(make_worker) for _ in range(count)], each

    def _take_room(self, count: int, each: dict[str, float]) -> None:
        """Raises UsageError where so many workers, with those of the other stage, would wait for ever for their place."""
        import ray

        there = ray.cluster_resources()
        for kind, share in each.items():
            self._taken[kind] += count * share
            if self._taken[kind] > there.get(kind, 0):
                raise UsageError(
                    f"all workers together need {self._taken[kind]:g} {kind}s, and Ray has {there.get(kind, 0):g}",
                    "give fewer --workers or --scoring-workers, or less of a GPU to each",
                )


class RayWorker:
    """Lives in a process of Ray's. What it needs is loaded with the first batch, and again where it was started anew."""

    def __init__(self, make_worker: MakeWorker[Any, Any]) -> None:
        self._make_worker = make_worker
        self._worker: Callable[[Any], Any] | None = None

    def work(self, batch: Any) -> Any:
        self._worker = self._worker or self._make_worker()
        return self._worker(batch)


def _in_order(actors: Sequence[Any], batches: Iterable[Any]) -> Iterator[Any]:
    """Each batch goes to the worker with the fewest; results come in the batches' order.

    Raises what a worker raises, and Incomplete for a batch that no worker survived.
    """
    import ray

    coming = iter(batches)
    under_way: deque[tuple[Any, int]] = deque()

    def hand_out(batch: Any) -> None:
        refs = [ref for ref, _ in under_way]
        unfinished = set(ray.wait(refs, num_returns=len(refs), timeout=0)[1]) if refs else set()
        load = [sum(who == i and ref in unfinished for ref, who in under_way) for i in range(len(actors))]
        least = load.index(min(load))
        under_way.append((actors[least].work.remote(batch), least))

    for batch in islice(coming, AHEAD * len(actors)):
        hand_out(batch)
    while under_way:
        result = _result(under_way[0][0])
        under_way.popleft()
        for batch in islice(coming, 1):
            hand_out(batch)
        yield result


def _result(ref: Any) -> Any:
    """Raises what the worker raised, and Incomplete for a batch that no worker survived."""
    import ray

    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except (ray.exceptions.RayActorError, ray.exceptions.RaySystemError) as error:
        raise Incomplete(
            f"a batch ended its worker {RETRIES + 1} times ({_line(error)})",
            "give the same command again, with smaller batches if memory was short",
        ) from None


def _check_reachable(address: str) -> None:
    """Raises UsageError where nobody answers; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # "auto": the cluster that this machine belongs to
        return
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"there is no Ray cluster at {address} ({_line(error)})", "start one, or see --address"
        ) from None


def _environment() -> dict[str, str]:
    """As many threads as here: sums are rounded otherwise with another number of them."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    return {**passed, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(_threads())}


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".:") if str(error).strip() else type(error).__name__
