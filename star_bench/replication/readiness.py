"""Can a row be run here? Everything that stands in its way, found before anything is generated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from star_bench.assets import model_files
from star_bench.catalogue import checkpoints, suites
from star_bench.catalogue.cards import did_you_mean
from star_bench.catalogue.suites import NOT_STATED
from star_bench.errors import MissingWeights, StarBenchError, UsageError
from star_bench.evaluators.base import Prompt
from star_bench.replication.plan import CLAIMED, Plan, Row
from star_bench.runs.workers import make_evaluator

NOT_RELEASED = "weights not released"
WEIGHTS = "weights not here"
JUDGES = "judges not here"
PROMPTS = "prompts not here"
OTHER_METRIC = "another metric"
OTHER_PROMPTS = "other prompts"
REFUSED = "refused"


@dataclass(frozen=True)
class Lack:
    """kind: one of the names above. reason: what is wrong and what to do, without a full stop."""

    kind: str
    reason: str


UNRELEASED = Lack(NOT_RELEASED, "the numbers were printed, and no released weights are known here")


@dataclass(frozen=True)
class _Suite:
    """What there is of a suite here. prompts: None where they can't be read."""

    measures: tuple[str, ...]
    prompts: tuple[Prompt, ...] | None
    lacks: tuple[Lack, ...]


class Readiness:
    """Looks at each checkpoint and each suite once: many rows share one, and an unreachable network takes its time.

    fetch: weights that are not here may be downloaded, as `star-bench run` does; not where the row can't be run anyway.
    """

    def __init__(self, plan: Plan, device: str, *, fetch: bool) -> None:
        self._plan = plan
        self._device = device
        self._fetch = fetch
        self._weights: dict[tuple[str, bool], Lack | None] = {}
        self._suites: dict[str, _Suite] = {}

    def lacks(self, row: Row) -> tuple[Lack, ...]:
        """Why a row can't be run, what weighs most first; empty where it can.

        Raises UsageError for a measure that its suite does not have: that is a mistake in the plan, on every machine.
        """
        suite = self._suite(row.suite)
        _check_measure(row, suite)
        others = [lack for lack in (*suite.lacks, _other_prompts(row, suite)) if lack is not None]
        weights = self._lack_of(row.checkpoint, fetch=self._fetch and not others)
        if weights is UNRELEASED:  # then nothing else matters
            return (UNRELEASED,)
        return tuple(others) if weights is None else (weights, *others)

    def _lack_of(self, word: str, *, fetch: bool) -> Lack | None:
        if (word, fetch) not in self._weights:
            self._weights[word, fetch] = _weights(word, fetch=fetch)
        return self._weights[word, fetch]

    def _suite(self, name: str) -> _Suite:
        if name not in self._suites:
            self._suites[name] = _examine(name, self._plan, self._device)
        return self._suites[name]


def by_reason(found: Iterable[tuple[str, tuple[Lack, ...]]]) -> dict[Lack, list[str]]:
    """(id, lacks) of rows -> each lack once, with the rows that wait for it."""
    out: dict[Lack, list[str]] = {}
    for name, lacks in found:
        for lack in lacks:
            out.setdefault(lack, []).append(name)
    return out


def _lack(kind: str, error: StarBenchError) -> Lack:
    return Lack(kind if isinstance(error, MissingWeights) else REFUSED, str(error).removesuffix("."))


def _weights(word: str, *, fetch: bool) -> Lack | None:
    if word == CLAIMED:
        return UNRELEASED
    checkpoint = checkpoints.resolve(word)
    if checkpoint.status == "claimed":
        return UNRELEASED
    try:
        model_files.locate(checkpoint, fetch=fetch)
    except StarBenchError as error:
        return _lack(WEIGHTS, error)
    return None


def _examine(name: str, plan: Plan, device: str) -> _Suite:
    evaluator = make_evaluator(suites.load(name), device)
    lacks, prompts = [], None
    unlike = plan.suites[name].unlike(evaluator.metric)
    if unlike is not None:
        lacks.append(Lack(OTHER_METRIC, unlike))
    try:
        prompts = tuple(evaluator.prompts())
    except StarBenchError as error:
        lacks.append(_lack(PROMPTS, error))
    try:
        evaluator.judges()
    except StarBenchError as error:
        lacks.append(_lack(JUDGES, error))
    return _Suite(tuple(aggregate.name for aggregate in evaluator.aggregates), prompts, tuple(lacks))


def _check_measure(row: Row, suite: _Suite) -> None:
    """A measure may be a tag, and tags are those of the prompts: where these are not here, a run will say it."""
    known = [NOT_STATED, *suite.measures, *dict.fromkeys(prompt.tag for prompt in suite.prompts or () if prompt.tag)]
    if suite.prompts is not None and row.measure not in known:
        problem = f"row {row.id}: suite {row.suite!r} has no measure {row.measure!r}"
        raise UsageError(problem, did_you_mean(row.measure, known))


def _other_prompts(row: Row, suite: _Suite) -> Lack | None:
    if suite.prompts is None or row.prompts is None:
        return None
    here = min(len(suite.prompts), row.limit or len(suite.prompts))
    if row.prompts == here:
        return None
    return Lack(OTHER_PROMPTS, f"published on {row.prompts} prompts, and here they are {here}")
