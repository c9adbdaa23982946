"""The reward-hacking alarm: the reward that was trained on rises while a held-out panel falls.

A panel measure that is better when higher may fall; one that only describes, such as contrast, may move. A change is
what a two-sided test shows to be larger than the measure's margin. The p-values of all panel measures are corrected
together, so that of a panel to which nothing happened any measure falls or moves in at most 5 % of cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from star_bench.analysis.caveats import licence_marks, shortcomings
from star_bench.analysis.comparable import check_comparable
from star_bench.analysis.values import aggregate_of, values_of
from star_bench.catalogue.cards import did_you_mean
from star_bench.errors import Refused, UsageError
from star_bench.runs.finished import RunFiles, read_run
from star_bench.runs.references import find
from star_bench.statistics import multiple
from star_bench.statistics.bootstrap import STANDARD_ERROR, Estimate
from star_bench.statistics.margin import two_sided_p
from star_bench.statistics.paired import METHOD, paired_difference
from star_bench.statistics.paired import changes as paired_changes
from star_bench.statistics.rule import ALPHA

SIDES = ("before", "after")

Paths = tuple[Path, Path]
"""Run directories, or their results.json: before and after."""
Runs = tuple[RunFiles, RunFiles]


class Verdict(StrEnum):
    """What `Watch.verdict` says; only ALARM is one."""

    ALARM = "alarm"
    WARNING = "warning"
    CLEAR = "clear"
    NO_RISE = "no rise"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Change:
    """One measure before and after; metric is the identity of its suite's. difference is None of nothing measured."""

    role: Literal["reward", "panel"]
    suite: str
    metric: str
    measure: str
    unit: str
    better: Literal["higher", "none"]
    before: float | None
    after: float | None
    difference: Estimate
    p: float | None
    """Two-sided, of a change within the margin; of a panel's measures corrected for their number."""
    margin: float = 0.0
    """In the unit."""

    @property
    def word(self) -> str:
        """rose, fell, or moved for a description; "no change" where none is shown."""
        if self.difference.value is None:
            return "no value"
        if self.p is None or self.difference.low is None or self.difference.high is None:
            return "no interval"
        # Where every prompt changed alike p is 0 however few there are, and the interval reckons with unlike ones.
        if self.p > ALPHA or self.difference.low <= 0 <= self.difference.high:
            return "no change"
        if self.better == "none":
            return "moved"
        return "rose" if self.difference.value > 0 else "fell"

    def row(self) -> dict[str, Any]:
        """As plain data, for a table or a program."""
        return {
            "role": self.role,
            "suite": self.suite,
            "measure": self.measure,
            "unit": self.unit,
            "better": self.better,
            "before": self.before,
            "after": self.after,
            "difference": self.difference.value,
            "low": self.difference.low,
            "high": self.difference.high,
            "p": self.p,
            "margin": self.margin,
            "prompts": self.difference.n_prompts,
            "change": self.word,
        }


@dataclass(frozen=True)
class Watch:
    """What became of the reward and of each panel measure. notices: what a reader must know of the runs."""

    reward: Change
    panel: tuple[Change, ...]
    notices: tuple[str, ...]

    @property
    def test(self) -> str:
        """How a change was told from none."""
        count = len(self.panel)
        corrected = f", of the {count} panel measures corrected by {multiple.METHOD}" if count > 1 else ""
        return f"two-sided, Student's t with the {STANDARD_ERROR}{corrected}, p at most {ALPHA:g}"

    def _names(self, word: str) -> str:
        return ", ".join(change.measure for change in self.panel if change.word == word)

    @property
    def verdict(self) -> Verdict:
        words = {change.word for change in self.panel}
        if self.reward.word == "no interval":
            return Verdict.UNDECIDED
        if self.reward.word != "rose":
            return Verdict.NO_RISE
        if "fell" in words:
            return Verdict.ALARM
        if "no interval" in words:
            return Verdict.UNDECIDED
        return Verdict.WARNING if "moved" in words else Verdict.CLEAR

    @property
    def sentence(self) -> str:
        """The verdict and its reason."""
        match self.verdict:
            case Verdict.ALARM:
                return f"ALARM: the reward rose and the panel fell ({self._names('fell')})"
            case Verdict.WARNING:
                return f"WARNING: the reward rose and the panel did not fall, but it moved ({self._names('moved')})"
            case Verdict.CLEAR:
                return "No alarm: the reward rose, and the panel neither fell nor moved"
            case Verdict.NO_RISE:
                panel = f"; the panel fell ({self._names('fell')})" if self._names("fell") else ""
                return f"No alarm: the reward did not rise ({self.reward.word}){panel}"
            case Verdict.UNDECIDED:
                names = self._names("no interval") or "the reward"
                return f"NO VERDICT: {names} has no interval, because a tag has a single prompt"

    def as_dict(self) -> dict[str, Any]:
        """For programs. Every row names its metric and its interval."""
        rows = [{**change.row(), "metric": change.metric, "interval": METHOD} for change in (self.reward, *self.panel)]
        return {
            "verdict": self.verdict.value,
            "sentence": self.sentence,
            "alpha": ALPHA,
            "test": self.test,
            "reward": rows[0],
            "panel": rows[1:],
            "notices": list(self.notices),
        }


def watch(reward: Paths, panels: Sequence[Paths], margins: Mapping[str, float] | None = None) -> Watch:
    """Reads and compares the runs of a reward's suite, and of one or more panels, before and after training. margins: by
    measure, in its unit: a change up to it is none.

    Raises UsageError for a margin of no measure, or one that is not finite and 0 or more; what `read_run` and
    `check_comparable` raise; UsageError for a panel that is the reward itself; and Refused where the runs of one side are
    of different models, or a run's numbers can't be had prompt by prompt.
    """
    pairs = [_read(paths) for paths in (reward, *panels)]
    rewarded = pairs[0][0].results
    for pair in pairs[1:]:
        panel = pair[0].results
        if (panel.suite, panel.metric.identity) == (rewarded.suite, rewarded.metric.identity):
            raise UsageError(f"the panel {panel.suite} is the reward itself", "give runs that nothing was trained on")
        for side, run, other in zip(SIDES, pairs[0], pair, strict=True):
            _check_same_model(side, run, other)
    margins = margins or {}
    rewarding = _headline("reward", pairs[0], margins)
    changes = [change for pair in pairs[1:] for change in _panel(pair, margins)]
    _check_margins(margins, [change.measure for change in (rewarding, *changes)])
    results = [run.results for pair in pairs for run in pair]
    said = dict.fromkeys(notice for each in results for notice in shortcomings(each))
    marks = licence_marks([part for each in results for part in each.ledger])
    return Watch(rewarding, tuple(corrected(changes)), (*said, *marks))


def corrected(panel: Sequence[Change]) -> list[Change]:
    """The changes with their p-values corrected for their number."""
    p_values = multiple.holm({str(i): change.p for i, change in enumerate(panel) if change.p is not None})
    return [replace(change, p=p_values.get(str(i))) for i, change in enumerate(panel)]


def _check_margins(margins: Mapping[str, float], measures: Sequence[str]) -> None:
    for name, margin in margins.items():
        if name not in measures:
            raise UsageError(f"there is no measure {name!r} to have a margin", did_you_mean(name, measures))
        if not math.isfinite(margin) or margin < 0:
            raise UsageError(f"{name} can't be judged with a margin of {margin:g}", "give 0 or more, in its unit")


def _read(paths: Paths) -> Runs:
    before, after = (read_run(find(path)) for path in paths)
    check_comparable(before, after)
    return before, after


def _check_same_model(side: str, run: RunFiles, other: RunFiles) -> None:
    """Pictures made elsewhere have a digest of their own for each suite, so of them this can't be known."""
    foreign = "foreign" in (run.results.generation, other.results.generation)
    if not foreign and run.results.model.digest != other.results.model.digest:
        raise Refused(
            f"{run.folder} and {other.folder}, both given as {side}, are of different models",
            f"give the runs of one model as {side}",
        )


def _headline(role: Literal["reward", "panel"], pair: Runs, margins: Mapping[str, float]) -> Change:
    results = pair[0].results
    name = results.metric.name
    return _change(role, pair, results.aggregates[0].name, name, results.metric.unit, "higher", margins.get(name, 0.0))


def _panel(pair: Runs, margins: Mapping[str, float]) -> list[Change]:
    """Every measure; of a suite that measures one thing, its headline."""
    return [
        _change("panel", pair, m.name, m.name, m.unit, m.better, margins.get(m.name, 0.0))
        for m in pair[0].results.measures
    ] or [_headline("panel", pair, margins)]


def _change(
    role: Literal["reward", "panel"],
    pair: Runs,
    aggregate: str,
    measure: str,
    unit: str,
    better: Literal["higher", "none"],
    margin: float,
) -> Change:
    before, after = (aggregate_of(run, aggregate) for run in pair)
    old, new = (values_of(run, entry) for run, entry in zip(pair, (before, after), strict=True))
    results = pair[0].results
    return Change(
        role,
        results.suite,
        results.metric.identity,
        measure,
        unit,
        better,
        before.value,
        after.value,
        paired_difference(old, new, of_tags=before.of_tags, limits=results.metric.range),
        two_sided_p(paired_changes(old, new), margin=margin, of_tags=before.of_tags),
        margin,
    )
