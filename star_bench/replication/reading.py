"""One measure of a finished run: its number, and the values of each prompt that it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from star_bench.analysis.values import values_of
from star_bench.catalogue.cards import did_you_mean
from star_bench.catalogue.suites import NOT_STATED
from star_bench.errors import UsageError
from star_bench.runs.finished import Interval, RunFiles, read_run
from star_bench.statistics.bootstrap import PromptValues


@dataclass(frozen=True)
class Reading:
    """entry: value and interval; its value is None where nothing has a score. prompts: by id, with a value per image, or
    a prompt's only one. problem: what is not whole about the run, in words."""

    folder: Path
    run: RunFiles
    title: str
    entry: Interval
    of_tags: bool
    prompts: dict[str, PromptValues]

    @property
    def problem(self) -> str | None:
        counts = self.run.results.counts
        if self.run.results.is_complete:
            return None
        return f"only {counts.ok} of {counts.planned} images have a score: see the run's report"


def read(folder: Path, measure: str) -> Reading:
    """measure: an aggregate or a tag; "not stated" reads the headline. Raises UsageError for one that the run does not
    have, and what `read_run` and `values_of` raise."""
    run = read_run(folder)
    results = run.results
    for aggregate in results.aggregates:
        if measure in (aggregate.name, NOT_STATED):
            return Reading(folder, run, aggregate.title, aggregate, aggregate.of_tags, values_of(run, aggregate))
    for tag in results.tags:
        if measure == tag.tag:
            return Reading(folder, run, f"{tag.tag}, over images", tag, False, _of_tag(run, tag.tag))
    known = [*(entry.name for entry in results.aggregates), *(entry.tag for entry in results.tags)]
    raise UsageError(f"suite {results.suite!r} has no measure {measure!r}", did_you_mean(measure, known))


def _of_tag(run: RunFiles, tag: str) -> dict[str, PromptValues]:
    """A tag's number is over the images' own scores."""
    scores: dict[str, list[float]] = {}
    for image in run.images:
        if image.prompt.tag == tag and image.value is not None:
            scores.setdefault(image.prompt.id, []).append(image.value)
    return {name: PromptValues(tag, values) for name, values in scores.items()}
