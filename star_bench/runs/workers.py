"""What is done to a batch, wherever it is done: pictures are made of items, and scores of pictures.

`MakePictures` and `MakeJudge` can be pickled, and load what they need where they are called.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from star_bench.assets.model_files import LocalCheckpoint
from star_bench.catalogue import plugins
from star_bench.catalogue.protocol import Protocol
from star_bench.catalogue.suites import SuiteCard
from star_bench.evaluators.base import Begun, Evaluator, Prompt, Score, Status, check_canaries
from star_bench.memory import free_memory
from star_bench.runs.engines.halving import Halving, OutOfMemory
from star_bench.runs.patience import Patience, limit
from star_bench.runs.plan import Item

if TYPE_CHECKING:
    from star_bench.generation.sampler import Sampler

Pictures = Sequence[np.ndarray | OutOfMemory | None]
"""uint8 RGB (H, W, 3), or why there is none; None where the latents were not finite."""
Generate = Callable[[list[Item]], Pictures]
Asked = tuple[Prompt, np.ndarray]
Judge = Callable[[list[Asked]], Sequence[Begun]]
"""Does of scoring what needs a device; `finished` does the rest."""
Note = Callable[[str], None]


def say(message: str) -> None:
    """On stderr, which is all that a process elsewhere has."""
    sys.stderr.write(f"{message}\n")


def make_evaluator(card: SuiteCard, device: str) -> Evaluator:
    """The card's evaluator, from its entry point."""
    evaluator: Evaluator = plugins.load(plugins.EVALUATORS, card.evaluator)(card, device=device)
    return evaluator


def generating(sampler: Sampler, note: Note) -> Generate:
    """A batch that does not fit into memory is made in halves: noise is each image's own."""
    halving = Halving("generating", note)

    def work(items: list[Item]) -> Sequence[np.ndarray | None]:
        return sampler.generate([(i.prompt.id, i.prompt.text, i.k) for i in items])

    return lambda batch: halving(work, batch)


def judging(evaluator: Evaluator, note: Note) -> Judge:
    """One begun score per picture. A judge that raises fails the pictures of its batch, and nothing else."""
    halving, patience = Halving("scoring", note), Patience(limit())

    def work(part: list[Asked]) -> list[Begun]:
        pictures, prompts = [picture for _, picture in part], [prompt for prompt, _ in part]
        return list(patience(lambda: evaluator.begin(pictures, prompts), len(part)))

    def judge(batch: list[Asked]) -> list[Begun]:
        try:
            found = halving(work, batch)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; only its images have no score
            return [Score(None, Status.ERROR, {"error": f"{type(error).__name__}: {error}"})] * len(batch)
        return [
            Score(None, Status.ERROR, {"error": one.reason}) if isinstance(one, OutOfMemory) else one for one in found
        ]

    return judge


def finished(begun: Begun) -> Score:
    """A judge's answer for one picture, or an error where it fails or is none that could be stored."""
    try:
        score: Any = begun() if callable(begun) else begun
        if not isinstance(score, Score):
            raise TypeError(f"a judge must return Score, not {type(score).__name__}")
        json.dumps([score.value, score.detail], allow_nan=False).encode()
    except Exception as error:  # noqa: BLE001 - as above
        return Score(None, Status.ERROR, {"error": f"{type(error).__name__}: {error}"})
    return score


class Pipes:
    """Pipelines and samplers that are loaded once in this process, whatever is drawn with them."""

    def __init__(self) -> None:
        self._pipes: dict[tuple[str, str, str], Any] = {}
        self._samplers: dict[Protocol, Sampler] = {}

    def sampler(self, make: MakePictures) -> Sampler:
        if make.protocol not in self._samplers:
            self._samplers[make.protocol] = make.load(self._pipe)
        return self._samplers[make.protocol]

    def _pipe(self, make: MakePictures) -> Any:
        if make.texts:  # its text encoders are let go, so that it serves one set of texts
            return make.pipe()
        key = make.local.digest, make.protocol.dtype, make.device
        if key not in self._pipes:
            self._pipes[key] = make.pipe()
        return self._pipes[key]

    def clear(self) -> None:
        """Lets go of all, so that judges find the memory free."""
        self._pipes.clear()
        self._samplers.clear()
        free_memory()


@dataclass(frozen=True)
class MakePictures:
    """Loads a checkpoint to make pictures with."""

    local: LocalCheckpoint
    protocol: Protocol
    device: str
    texts: tuple[str, ...] = ()
    """Where they are given, all that will be drawn: they are encoded first, and the text encoders let go."""
    begin: Callable[[], None] = lambda: None
    """Called before anything is loaded."""
    note: Note = say
    pipes: Pipes | None = None
    """Where what is loaded is kept for others; in this process only."""

    def __call__(self) -> Generate:
        return generating(self.pipes.sampler(self) if self.pipes else self.load(), self.note)

    def load(self, pipe: Callable[[MakePictures], Any] | None = None) -> Sampler:
        from star_bench.generation.sampler import Sampler

        sampler = Sampler(pipe(self) if pipe else self.pipe(), self.protocol)
        if self.texts:
            sampler.free_text_encoders(self.texts)
        return sampler

    def pipe(self) -> Any:
        from star_bench.generation.pipeline import load

        self.begin()
        return load(self.local, dtype=self.protocol.dtype, device=self.device)


@dataclass(frozen=True)
class MakeJudge:
    """Makes a judge that first judges its canaries, since it may stand on another machine than its caller.

    Raises Refused, when it is called, for one that is misjudged.
    """

    card: SuiteCard
    device: str
    begin: Callable[[], None] = lambda: None
    note: Note = say

    def __call__(self) -> Judge:
        self.begin()
        evaluator = make_evaluator(self.card, self.device)
        check_canaries(evaluator)
        begin = judging(evaluator, self.note)
        return lambda batch: [finished(one) for one in begin(batch)]  # here: only a score can be sent
