"""Which number that somebody published is meant as the baseline of a run."""

from __future__ import annotations

from star_bench import checkpoints
from star_bench.errors import UsageError
from star_bench.reporting.run_files import PublishedEntry, Results


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
