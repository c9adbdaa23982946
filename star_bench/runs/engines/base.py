"""What an engine is: it maps a worker over batches, here or elsewhere, and gives results back in the batches' order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

Batch = TypeVar("Batch")
Result = TypeVar("Result")
MakeWorker = Callable[[], Callable[[Batch], Result]]
"""Loads what is needed. Called where the work is done; an engine that is remote needs one that can be pickled."""

Wait = Callable[[], Any]
"""Waits for a result and returns it, or raises what the worker raised."""


@dataclass(frozen=True)
class Scorer:
    """The scoring stage for batches that come one by one: so many workers, and how one is handed a batch."""

    workers: int
    submit: Callable[[Any], Wait]


@dataclass(frozen=True)
class Workers:
    """Of one stage. None leaves a choice to the engine. gpus: of each worker; 0.5 lets two share one."""

    count: int | None = None
    gpus: float | None = None


@dataclass(frozen=True)
class Settings:
    """What the command line says of where work runs. No picture and no score depends on any of it.

    device: what workers compute on. address: of a cluster; None for this machine.
    """

    device: str = "cpu"
    generation: Workers = Workers()
    scoring: Workers = Workers()
    address: str | None = None


class Engine(ABC):
    """Registered under the entry point group `star_bench.engines`. One is made per run; work is given to it inside `with`.

    Batches are pulled as they are needed, never all at once, and results come in the batches' order.
    """

    remote: ClassVar[bool] = False
    """Whether workers live in other processes. Then scoring goes on beside generation, and every machine that scores
    judges the canaries itself."""

    def __init__(self, settings: Settings) -> None:
        """Raises UsageError for settings that this engine can't keep. Starts nothing."""
        self.settings = settings

    def __enter__(self) -> Self:
        return self

    def __exit__(  # noqa: B027 - most have started nothing
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops whatever was started."""

    @abstractmethod
    def generate(self, make_worker: MakeWorker[Any, Any], batches: Iterable[Any]) -> Iterator[Any]:
        """worker(batch) for each batch of the generation stage."""

    @abstractmethod
    def score(self, make_worker: MakeWorker[Any, Any], batches: Iterable[Any]) -> Iterator[Any]:
        """worker(batch) for each batch of the scoring stage."""

    @abstractmethod
    def scorer(self, make_worker: MakeWorker[Any, Any]) -> Scorer:
        """For batches that are to be scored while the caller goes on."""
