"""A recorded run as a plan of today: the same prompts and suite, and the evaluator that is installed here.

Everything that would make today's scores another thing than the recorded ones is refused in words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from star_bench.catalogue import suites
from star_bench.catalogue.cards import parse
from star_bench.catalogue.suites import SuiteCard
from star_bench.errors import MissingWeights, Refused
from star_bench.evaluators.base import Evaluator, Prompt
from star_bench.runs.finished import RunFiles
from star_bench.runs.manifest import Manifest
from star_bench.runs.plan import Plan, Subject
from star_bench.runs.workers import make_evaluator
from star_bench.statistics.bootstrap import METHOD

ABSENT = "nothing"


@dataclass(frozen=True)
class Recorded:
    """prompts: how the recorded prompts were compared with the suite's, in words."""

    plan: Plan
    evaluator: Evaluator
    prompts: str


def plain(data: Any) -> Any:
    """As it is when it comes back from a JSON file."""
    return json.loads(json.dumps(data))


def differing(recorded: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, recorded, now) of every leaf of two JSON values that is not the same."""
    if isinstance(recorded, list) and isinstance(now, list):
        recorded, now = (dict(enumerate(each)) for each in (recorded, now))
    if isinstance(recorded, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*recorded, *now]):
            inner = f"{name}.{key}" if name else str(key)
            yield from differing(recorded.get(key, ABSENT), now.get(key, ABSENT), inner)
    elif recorded != now:
        yield name, recorded, now


def _refuse(what: str, recorded: Any, now: Any, version: str) -> Refused:
    return Refused(
        f"{what} is {recorded} in the run and {now} here, so what is here can't judge it",
        f"install star-bench {version} with the same judges, which made the run",
    )


def recorded_run(run: RunFiles, manifest: Manifest, *, suite: str | None, device: str, scoring: bool) -> Recorded:
    """The run's plan with today's evaluator.

    suite: the card to judge with, where the bundle's suite is none that comes with star-bench. Raises Refused where
    the suite, prompts, metric, intervals or (with `scoring`) judges here are not those of the run.
    """
    card, is_here = _card(manifest, suite, run.results.canaries)
    evaluator = make_evaluator(card, device)
    version = manifest.star_bench
    if evaluator.metric.identity != manifest.metric:
        raise _refuse("the metric", manifest.metric, evaluator.metric.identity, version)
    if run.results.interval != METHOD:
        raise _refuse("the way of making intervals", run.results.interval, METHOD, version)
    if scoring:
        for name, was, now in differing(manifest.judges, evaluator.judges()):
            raise _refuse(f"the judge {name}", was, now, version)
    prompts = tuple(Prompt(row.id, row.text, row.tag, row.metadata) for row in run.prompts.values())
    if plain([[p.id, p.text, p.metadata] for p in prompts]) != plain(manifest.prompts):
        raise Refused(
            f"prompts.jsonl in {run.folder.name} and its manifest.json name other prompts", "get the run again"
        )
    compared, of = _compare_prompts(evaluator, prompts, run) if is_here else ("not compared: the suite is not here", 0)
    results = run.results
    foreign = results.generation == "foreign"
    subject = Subject(results.model.name, manifest.model, results.model.licence, foreign=foreign)
    said = results.subset.of if results.subset else len(prompts)
    plan = Plan(
        subject, card, evaluator.metric, manifest.judges, prompts, of or said, manifest.samples, manifest.protocol
    )
    return Recorded(plan, evaluator, compared)


def _card(manifest: Manifest, asked: str | None, canaries: int) -> tuple[SuiteCard, bool]:
    """The suite's card, and whether it lies here with its files; else the card is the run's own."""
    name = str(manifest.suite.get("name"))
    if asked is None and name not in suites.names():
        if canaries:
            raise Refused(
                f"suite {name!r} is not here, and a bundle does not carry its canary pictures",
                "give --suite the path of its card.yaml",
            )
        keys: dict[str, Any] = {key: manifest.suite[key] for key in ("evaluator", "judges") if key in manifest.suite}
        prompts = {"path": "prompts.jsonl"}  # of the run itself
        said: dict[str, Any] = {
            "name": name,
            "title": name,
            "summary": "",
            "licence": suites.NOT_STATED,
            "prompts": prompts,
            **keys,
        }
        return _same(parse(SuiteCard, said, "the suite in manifest.json"), manifest), False
    return _same(suites.load(asked or name), manifest), True


def _same(card: SuiteCard, manifest: Manifest) -> SuiteCard:
    for name, was, now in differing(manifest.judging, card.judging):
        raise _refuse(f"{name} of suite {card.name!r}", repr(was), repr(now), manifest.star_bench)
    return card


def _compare_prompts(evaluator: Evaluator, prompts: tuple[Prompt, ...], run: RunFiles) -> tuple[str, int]:
    """In words, and how many prompts the suite has (0 where they are not on this machine)."""
    try:
        everything = {prompt.id: prompt for prompt in evaluator.prompts()}
    except MissingWeights as error:
        return f"not compared: {error.problem}", 0
    for prompt in prompts:
        own = everything.get(prompt.id)
        if own is None or plain(vars(own)) != plain(vars(prompt)):
            raise Refused(
                f"prompt {prompt.id!r} ({prompt.text!r}, {prompt.tag!r}) of {run.folder.name} is not the suite's",
                "get the run again from who made it: its prompts were changed",
            )
    return "those of the suite", len(everything)
