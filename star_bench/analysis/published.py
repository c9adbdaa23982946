"""Which number that somebody published is meant as the baseline of a run, and which measure of the run it is."""

from __future__ import annotations

import re

from star_bench.catalogue import checkpoints
from star_bench.catalogue.protocol import differences, named
from star_bench.catalogue.suites import NOT_STATED
from star_bench.errors import Refused, UsageError
from star_bench.runs.finished import AggregateEntry, PublishedEntry, Results

NAMED = re.compile(r"(?P<name>.*?)\s*(?:\((?P<more>[^()]*)\))?")
"""A published metric: its name, and in brackets its unit, or what measured it, as "OCR accuracy (PaddleOCR 2.9.1)"."""
SEPARATE = "read it beside the run's, or give a run as --baseline"


def published_for(results: Results, which: str = "") -> PublishedEntry:
    """The only published number of the run's model on its suite; `which` is part of the model's name or of the source,
    and with it numbers of other models count too.

    Looked for in checkpoints.yaml and in the suite's card, as the run recorded it. Raises UsageError where there is none,
    or more than one.
    """
    known = {
        (entry.model, entry.value, entry.source): entry
        for entry in [*_of_checkpoints(results.suite), *results.published]
    }
    if which:
        found = [e for e in known.values() if which.lower() in f"{e.model} {e.source}".lower()]
    else:
        found = [e for e in known.values() if e.model == results.model.name]
    if len(found) == 1:
        return found[0]
    whose = f"matches {which!r}" if which else f"is of {results.model.name}"
    listed = "; ".join(f"{e.model} {e.value:g} ({e.source})" for e in found or known.values())
    if not known:
        raise UsageError(f"nobody's number is known for suite {results.suite!r}", "give a run as --baseline")
    count = f"{len(found)} published numbers of suite {results.suite!r}" if found else "no published number"
    raise UsageError(f"{count} {whose}", f"choose one by --baseline published:TEXT, among {listed}")


def _of_checkpoints(suite: str) -> list[PublishedEntry]:
    return [
        PublishedEntry(model=name, **number.model_dump(exclude={"suite"}, exclude_none=True))
        for name, entry in checkpoints.entries().items()
        for number in entry.published
        if number.suite == suite
    ]


def measure_of(results: Results, entry: PublishedEntry) -> AggregateEntry:
    """The aggregate of the run that the number can be subtracted from: of that name and, as far as the source says, of
    that unit and judge.

    Raises Refused where the source does not say what its number is, or where the run measured something else.
    """
    said = f"{entry.model}'s published {entry.value:g} ({entry.source})"
    if entry.metric in ("", NOT_STATED):
        raise Refused(f"{said} does not say of which measure it is, so nothing can be subtracted from it", SEPARATE)
    match = NAMED.fullmatch(entry.metric)
    name, more = (match["name"], match["more"]) if match else (entry.metric, None)
    found = next((each for each in results.aggregates if _plain(name) in map(_plain, _names(results, each))), None)
    if found is None:
        known = ", ".join(each.name for each in results.aggregates)
        raise Refused(f"{said} is of {entry.metric}, and the run measured {known}", SEPARATE)
    here = _identity(results, found)
    if missing := [word for word in _words(more or "") if word not in _words(" ".join(here))]:
        raise Refused(f"{said} was measured with {' '.join(missing)}, and the run with {', '.join(here)}", SEPARATE)
    low, high = results.metric.range
    if found is results.aggregates[0] and not results.measures:
        if more is None and None in (low, high) and _plain(name) == _plain(results.metric.name):
            raise Refused(f"{said} does not say its unit, and the run's is {results.metric.unit}", SEPARATE)
        if (low is not None and entry.value < low) or (high is not None and entry.value > high):
            raise Refused(
                f"{said} is on another scale than the run's {results.metric.name}, which goes from {low} to {high}",
                "write it in the card in that unit",
            )
    return found


def protocol_words(entry: PublishedEntry, results: Results) -> str:
    """How a published number was made, and how the run differs from that as far as both are known."""
    found = named(entry.protocol)
    if found is None:
        return entry.protocol
    if results.protocol is None:
        return f"{entry.protocol} ({found.what})"
    other = differences(found.settings, results.protocol)
    return f"{entry.protocol} ({found.what})" + (f"; DIFFERS: {', '.join(other)}" if other else "; as here")


def _names(results: Results, aggregate: AggregateEntry) -> list[str]:
    """What a source may call it: of a suite that measures one thing, also by the metric's name and unit."""
    names = [aggregate.name, aggregate.title]
    if aggregate is results.aggregates[0] and not results.measures:
        names += [results.metric.name, results.metric.unit]
    return names


def _identity(results: Results, aggregate: AggregateEntry) -> list[str]:
    """What measured it here: unit, implementation and version."""
    measure = next((each for each in results.measures if each.name == aggregate.name), results.metric)
    return [measure.unit, measure.implementation, measure.version]


def _plain(name: str) -> str:
    return "".join(each for each in name.casefold() if each.isalnum())


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:\.[^\W_]+)*", text.casefold())
