"""The gate: may this checkpoint go on, or did it get worse? A verdict for people, for programs and for CI."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from star_bench.analysis.caveats import licence_marks, shortcomings
from star_bench.analysis.comparable import REMEDIES, Part, waived
from star_bench.analysis.compare import Comparison, compare
from star_bench.analysis.numbers import number, signed
from star_bench.analysis.published import measure_of, protocol_words
from star_bench.analysis.values import values_of
from star_bench.errors import Refused, UsageError
from star_bench.runs.finished import AggregateEntry, PublishedEntry, Results, RunFiles
from star_bench.statistics import bootstrap, multiple, paired
from star_bench.statistics.bootstrap import Estimate, PromptValues, Spread, spread
from star_bench.statistics.margin import p_value
from star_bench.statistics.power import POWER
from star_bench.statistics.rule import ALPHA, METHODS, Rule
from star_bench.statistics.within import TWO_DRAWS, WITHIN, Noise, within_prompts


class Verdict(StrEnum):
    """INCOMPLETE: there is not enough to judge by, which is no pass."""

    PASSED = "passed"
    FAILED = "failed"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class Check:
    """One measure against its baseline.

    p: one-sided, of the rule's null hypothesis, corrected where there are several checks; like passed None where nothing
    can be decided. smallest: the smallest worsening that would probably have been found, in units of the metric.
    """

    kind: Literal["aggregate", "tag"]
    title: str
    before: float
    after: float
    difference: Estimate
    p: float | None
    smallest: float | None
    passed: bool | None


@dataclass(frozen=True)
class Gate:
    """What was asked, what was found and what follows. baseline: a run's model, or who printed a number, in words."""

    suite: str
    model: str
    baseline: str
    metric: str
    unit: str
    rule: Rule
    margin: float
    checks: tuple[Check, ...]
    incomplete: str
    """Why there can be no verdict; empty where there is one."""
    notices: tuple[str, ...]
    chance: str = f"the {bootstrap.STANDARD_ERROR}"
    """What p reckons with."""
    difference: str = paired.METHOD
    """How the difference and its interval were made."""

    @property
    def verdict(self) -> Verdict:
        if self.incomplete or not self.checks or any(check.passed is None for check in self.checks):
            return Verdict.INCOMPLETE
        return Verdict.PASSED if all(check.passed for check in self.checks) else Verdict.FAILED

    @property
    def remedy(self) -> str:
        """What makes a verdict possible, where there is none."""
        if self.incomplete:
            return REMEDIES[Part.COMPLETENESS]
        return "run both with more prompts (without --limit, or with a larger one), until every tag has two"

    @property
    def methods(self) -> dict[str, str]:
        """How each number was made."""
        several = len(self.checks) > 1 and self.rule is Rule.NO_REGRESSION
        corrected = f"; corrected over {len(self.checks)} checks by {multiple.METHOD}" if several else ""
        return {
            "rule": f"{self.rule.value}: {METHODS[self.rule]} (margin {self.margin:g}, p at most {ALPHA:g})",
            "p": f"one-sided, Student's t with {self.chance}{corrected}",
            "difference": self.difference,
            "smallest": f"worsening that the test finds with probability {POWER:g}, uncorrected",
        }

    @property
    def sentence(self) -> str:
        """The verdict, and what it rests on."""
        what = f"{self.model} on {self.suite} against {self.baseline}"
        match self.verdict:
            case Verdict.INCOMPLETE:
                why = self.incomplete or "a tag has a single prompt, so that nothing is known of chance"
                return f"INCOMPLETE: {what}: {why}"
            case Verdict.FAILED:
                return f"FAILED: {what}: {self._worse()}"
            case Verdict.PASSED:
                return f"PASSED: {what}: {self._fine()}"

    def _worse(self) -> str:
        named = ", ".join(f"{c.title} {signed(c.difference.value)}" for c in self.checks if not c.passed)
        if self.rule is Rule.NON_INFERIOR:
            return f"not shown to be within {self.margin:g} of it or better ({named})"
        return f"worse by more than {self.margin:g} ({named})" if self.margin else f"worse ({named})"

    def _fine(self) -> str:
        if self.rule is Rule.NON_INFERIOR:
            return f"shown to be better, or worse by less than {self.margin:g}"
        smallest = self.checks[0].smallest
        seen = f"; a worsening of {number(smallest)} would probably have been found" if smallest else ""
        return f"no worsening beyond {self.margin:g} shown{seen}"

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        checks = [
            {**asdict(c), "difference": c.difference.value, "low": c.difference.low, "high": c.difference.high}
            for c in self.checks
        ]
        return {
            "verdict": self.verdict.value,
            "sentence": self.sentence,
            "suite": self.suite,
            "model": self.model,
            "baseline": self.baseline,
            "metric": self.metric,
            "rule": self.rule.value,
            "margin": self.margin,
            "alpha": ALPHA,
            "checks": checks,
            "methods": self.methods,
            "notices": list(self.notices),
        }


def against_run(
    run: RunFiles,
    baseline: RunFiles,
    *,
    rule: Rule,
    margin: float,
    each_tag: bool = False,
    allow: Collection[str] = (),
) -> Gate:
    """The headline, and with `each_tag` every tag, against a run of the same suite.

    Raises UsageError for a margin that the rule can't use or the metric can't lose, and Refused for runs that can't be
    compared, unless `allow` names the reason; a missing score makes the gate incomplete instead.
    """
    _check_margin(rule, margin, run.results, baseline.results.aggregates[0].value)
    if each_tag and not baseline.results.tags:
        raise UsageError(f"the prompts of suite {run.results.suite!r} have no tags", "leave --each-tag out")
    found = compare(baseline, run, [*allow, Part.COMPLETENESS])
    lost = [each for each in found.waived if each.part is Part.COMPLETENESS]
    kept = [each for each in lost if not waived(each, allow)]
    incomplete = "; ".join(each.words for each in kept)
    checks = [] if incomplete else _paired_checks(found, rule, margin, each_tag)
    # What nobody allowed was not waived: it is the verdict.
    notices = replace(found, waived=tuple(each for each in found.waived if each not in kept)).notices
    return _gate(run, baseline.results.model.name, rule, margin, checks, incomplete, notices)


def against_published(
    run: RunFiles, entry: PublishedEntry, *, rule: Rule, margin: float, each_tag: bool = False
) -> Gate:
    """The measure that was printed, and with `each_tag` the tags that were printed too, against a number that somebody
    published.

    It was made on the same prompts by another draw of noise, so what counts as chance is the noise within prompts of both
    draws, as for `star-bench replicate`.

    Raises UsageError as `against_run`, and for a subset of the suite's prompts, whose number is not the same; Refused
    where the number is of another measure, judge or scale (`published.measure_of`).
    """
    results = run.results
    measure = measure_of(results, entry)
    _check_margin(rule, margin, results, entry.value)
    if each_tag and not entry.tags:
        raise UsageError(f"{entry.source} printed no number of a tag", "leave --each-tag out")
    if results.subset:
        raise UsageError(
            f"{run.folder} has {results.subset.limit} of {results.subset.of} prompts, and {entry.source} had all",
            "run the whole suite",
        )
    counts = results.counts
    incomplete = "" if results.is_complete else f"{counts.ok} of {counts.planned} images have a score"
    notices = [
        f"PUBLISHED NUMBER: {entry.source}; its protocol: {protocol_words(entry, results)}",
        *shortcomings(results),
        *licence_marks(results.ledger),
    ]
    values = values_of(run, measure)
    noise = within_prompts(list(values.values()), of_tags=measure.of_tags)
    checks = [] if incomplete else _published_checks(run, measure, entry, rule, margin, each_tag)
    found = _gate(run, f"{entry.model} as published", rule, margin, checks, incomplete, notices)
    chance = f"the noise of two draws, {WITHIN if noise else f'each with the {bootstrap.STANDARD_ERROR}'}"
    return replace(found, chance=chance, difference=f"from the printed number; 95 %, Student's t with {chance}")


def _check_margin(rule: Rule, margin: float, results: Results, baseline: float | None) -> None:
    """Raises UsageError for a margin with which nothing could fail, or by the rule nothing pass."""
    low, high = results.metric.range
    unit = results.metric.unit
    if not math.isfinite(margin) or margin < 0 or (rule is Rule.NON_INFERIOR and margin == 0):
        least = "above 0, since no run can show that there is no worsening at all" if margin == 0 else "0 or more"
        raise UsageError(f"{rule.value} can't be judged with a margin of {margin:g}", f"give a --margin {least}")
    if low is not None and high is not None and margin >= high - low:
        raise UsageError(
            f"no run can be worse by {margin:g}, since {results.metric.name} goes from {low:g} to {high:g}, so that a "
            "gate with this margin stops nothing",
            f"give the --margin in the metric's unit ({unit}): two per cent of that range are {(high - low) / 50:g}",
        )
    if low is not None and baseline is not None and low < baseline <= low + margin:
        raise UsageError(
            f"no run can be worse by {margin:g} than a baseline of {baseline:.4g}, since {results.metric.name} starts at "
            f"{low:g}, so that a gate with this margin stops nothing",
            f"give a --margin below {baseline - low:.4g}",
        )


def _gate(
    run: RunFiles,
    baseline: str,
    rule: Rule,
    margin: float,
    checks: Sequence[Check],
    incomplete: str,
    notices: Sequence[str],
) -> Gate:
    results = run.results
    return Gate(
        suite=results.suite,
        model=results.model.name,
        baseline=baseline,
        metric=results.metric.identity,
        unit=results.metric.unit,
        rule=rule,
        margin=margin,
        checks=tuple(_decided(checks, rule)),
        incomplete=incomplete,
        notices=tuple(notices),
    )


def _paired_checks(found: Comparison, rule: Rule, margin: float, each_tag: bool) -> list[Check]:
    tags = [row for row in found.rows if row.kind == "tag"] if each_tag else []
    low, high = found.limits
    limits = (None, None) if low is None or high is None else (low - high, high - low)
    out = []
    for row in (found.headline, *tags):
        p = p_value(rule, row.changes, margin=margin, of_tags=row.of_tags, limits=limits, identical=found.identical)
        assert row.before is not None and row.after is not None  # complete runs have values
        chance = spread(row.changes, of_tags=row.of_tags)
        smallest = _seen(chance if chance and chance.fewest > 1 else None)
        out.append(Check(row.kind, row.title, row.before, row.after, row.difference, p, smallest, None))
    return out


def _published_checks(
    run: RunFiles, measure: AggregateEntry, entry: PublishedEntry, rule: Rule, margin: float, each_tag: bool
) -> list[Check]:
    asked: list[_Printed] = [
        _Printed("aggregate", measure.title, entry.value, measure.of_tags, list(values_of(run, measure).values()))
    ]
    for tag, value in entry.tags.items() if each_tag else ():
        mine: dict[str, list[float]] = {}
        for image in run.images:
            if image.prompt.tag == tag and image.value is not None:
                mine.setdefault(image.prompt.id, []).append(image.value)
        if not mine:
            raise Refused(f"{run.folder} has no tag named {tag!r}, which {entry.source} has", "leave --each-tag out")
        asked.append(_Printed("tag", tag, value, False, [PromptValues(tag, found) for found in mine.values()]))
    return [each.check(run.results.metric.range, rule, margin) for each in asked]


@dataclass(frozen=True)
class _Printed:
    """One measure's printed value, and what was measured, prompt by prompt."""

    kind: Literal["aggregate", "tag"]
    title: str
    value: float
    of_tags: bool
    measured: Sequence[PromptValues]

    def check(self, limits: tuple[float | None, float | None], rule: Rule, margin: float) -> Check:
        low, high = limits
        bounds = (None, None) if low is None or high is None else (low - self.value, high - self.value)
        moved = [PromptValues(prompt.tag, [v - self.value for v in prompt.values]) for prompt in self.measured]
        found = spread(moved, of_tags=self.of_tags)
        assert found is not None  # complete runs have values
        noise = within_prompts(moved, of_tags=self.of_tags)
        if noise is None and found.fewest > 1:
            noise = Noise(found.standard_error, found.degrees)
        both = noise and Noise(TWO_DRAWS * noise.standard_error, noise.degrees)
        reach = both.half_width if both else None
        ends = (None, None) if reach is None else (found.value - reach, found.value + reach)
        difference = Estimate(found.value, ends[0], ends[1], found.n_images, found.n_prompts)
        p = p_value(rule, moved, margin=margin, of_tags=self.of_tags, limits=bounds, noise=both)
        return Check(self.kind, self.title, self.value, self.value + found.value, difference, p, _seen(both), None)


def _seen(chance: Spread | Noise | None) -> float | None:
    """What the uncorrected one-sided test finds with probability POWER; None where there is no measure of chance."""
    if chance is None or not chance.standard_error:
        return None
    return (chance.quantile(1 - ALPHA) + chance.quantile(POWER)) * chance.standard_error


def _decided(checks: Sequence[Check], rule: Rule) -> list[Check]:
    """With p-values corrected and verdicts. That none of several has become worse takes a correction; that each of them
    is shown not to be worse takes none, since all must be.
    """
    p_values = {str(i): check.p for i, check in enumerate(checks) if check.p is not None}
    if rule is Rule.NO_REGRESSION:
        p_values = multiple.holm(p_values)
    out = []
    for i, check in enumerate(checks):
        p = p_values.get(str(i))
        shown = p is not None and p <= ALPHA
        passed = None if p is None else shown if rule is Rule.NON_INFERIOR else not shown
        out.append(replace(check, p=p, passed=passed))
    return out
