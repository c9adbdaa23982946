"""Two or more runs of one suite side by side: differences with intervals and p-values, and the images that flipped."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from star_bench.analysis.caveats import licence_marks, shortcomings
from star_bench.analysis.comparable import Difference, check_comparable
from star_bench.analysis.values import aggregate_of, values_of
from star_bench.errors import Incomplete, UsageError
from star_bench.runs.finished import RunFiles, RunImage
from star_bench.statistics import multiple, paired
from star_bench.statistics.bootstrap import Estimate, PromptValues, Range, spread
from star_bench.statistics.paired import changes, mcnemar_p, paired_difference, permutation_p

METHODS = {
    "difference": paired.METHOD,
    "p": paired.TEST,
    "p_holm": f"p of the tags, over all tags of all models compared: {multiple.METHOD}",
    "p_mcnemar": paired.BINARY_TEST,
}


@dataclass(frozen=True)
class Row:
    """One measure of both runs over the prompts that they share. of_tags: it is the mean of the tags' means.

    p: two-sided, of no difference; p_holm: the same, corrected over tags, None for an aggregate. p_mcnemar: None for
    values that are not right or wrong, for a mean of tags (it weighs prompts equally), and where no image flipped.
    """

    kind: Literal["aggregate", "tag"]
    name: str
    title: str
    of_tags: bool
    before: float | None
    after: float | None
    difference: Estimate
    p: float | None
    p_holm: float | None
    p_mcnemar: float | None
    changes: tuple[PromptValues, ...]
    """Of the prompts, which all of the above are made of."""

    def as_dict(self) -> dict[str, Any]:
        """Flat: the difference's own fields beside the others, its value as `difference`; without the changes."""
        interval = asdict(self.difference)
        fields = {name: value for name, value in asdict(self).items() if name not in ("difference", "changes")}
        return {**fields, "difference": interval.pop("value"), **interval}


@dataclass(frozen=True)
class Pair:
    """Image k of a prompt in both runs, each with a score. change: after - before, in units of the metric."""

    before: RunImage
    after: RunImage
    change: float


@dataclass(frozen=True)
class Comparison:
    """`after` against `before`. pairs: images that both runs scored, in the suite's order. waived: what would have kept
    the runs apart and was allowed. binary: values are right or wrong, so that a changed one is a flip.
    """

    before: RunFiles
    after: RunFiles
    waived: tuple[Difference, ...]
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    binary: bool
    identical: bool
    """Every pair is the same picture, byte for byte."""
    limits: Range
    """The lowest and the highest value of the metric."""

    @property
    def headline(self) -> Row:
        return self.rows[0]

    @property
    def flips(self) -> tuple[Pair, ...]:
        """Pairs whose value changed: what became worse first, the largest change first."""
        changed = [pair for pair in self.pairs if pair.change]
        return tuple(sorted(changed, key=lambda pair: (pair.change > 0, -abs(pair.change))))

    @property
    def counts(self) -> dict[str, int]:
        """Images: better, worse and unchanged."""
        better, worse = (sum(sign * pair.change > 0 for pair in self.pairs) for sign in (1, -1))
        return {"better": better, "worse": worse, "unchanged": len(self.pairs) - better - worse}

    @property
    def notices(self) -> list[str]:
        """What a reader must know before any number of this comparison."""
        results = self.before.results, self.after.results
        said = [f"WAIVED ({found.part.value}): {found.words}" for found in self.waived]
        said += [f"{each.model.name}: {text}" for each in results for text in shortcomings(each)]
        return list(dict.fromkeys([*said, *licence_marks([part for each in results for part in each.ledger])]))

    def as_dict(self) -> dict[str, Any]:
        """For programs: every number with its metric and its method."""
        sides = {"before": self.before, "after": self.after}
        return {
            "suite": self.before.results.suite,
            **{side: {"model": run.results.model.name, "run": run.results.digest} for side, run in sides.items()},
            "metric": self.before.results.metric.identity,
            "methods": METHODS,
            "notices": self.notices,
            "identical_pictures": self.identical,
            "images": self.counts,
            "rows": [row.as_dict() for row in self.rows],
        }


def compare(before: RunFiles, after: RunFiles, allow: Collection[str] = ()) -> Comparison:
    """Raises what `check_comparable` raises, Refused where values can't be had prompt by prompt, and Incomplete where no
    image has a score in both.
    """
    return compare_all([before, after], allow)[0]


def compare_all(runs: Sequence[RunFiles], allow: Collection[str] = ()) -> list[Comparison]:
    """Each run but the first against the first, with tags' p-values corrected over all of them. Raises what `compare`
    raises, and UsageError for fewer than two runs.
    """
    if len(runs) < 2:
        raise UsageError("there is nothing to compare one run with", "name two or more runs")
    return _corrected([_compare(runs[0], other, allow) for other in runs[1:]])


def _compare(before: RunFiles, after: RunFiles, allow: Collection[str]) -> Comparison:
    waived = check_comparable(before, after, allow)
    pairs = _pairs(before, after)
    if not pairs:
        raise Incomplete(
            f"{before.folder} and {after.folder} have no scored image in common", "let both runs finish first"
        )
    a, b = before.results.metric.range, after.results.metric.range
    limits = a if a == b else (None, None)
    identical = all(_same_picture(pair) for pair in pairs)
    binary = limits == (0, 1) and all(side.value in (0, 1) for pair in pairs for side in (pair.before, pair.after))
    rows = [*_aggregates(before, after, limits, identical), *_tags(pairs, limits, identical, binary)]
    return Comparison(before, after, tuple(waived), tuple(rows), pairs, binary, identical, limits)


def _pairs(before: RunFiles, after: RunFiles) -> tuple[Pair, ...]:
    others = {(image.prompt.id, image.k): image for image in after.images}
    out = []
    for image in before.images:
        other = others.get((image.prompt.id, image.k))
        if other is not None and image.value is not None and other.value is not None:
            out.append(Pair(image, other, other.value - image.value))
    return tuple(out)


def _same_picture(pair: Pair) -> bool:
    a, b = pair.before.sample, pair.after.sample
    return a is not None and b is not None and a.sha256 is not None and a.sha256 == b.sha256


def _aggregates(before: RunFiles, after: RunFiles, limits: Range, identical: bool) -> list[Row]:
    names = [entry.name for entry in after.results.aggregates]
    rows = []
    for entry in before.results.aggregates:
        if entry.name in names:
            old, new = values_of(before, entry), values_of(after, aggregate_of(after, entry.name))
            rows.append(_row("aggregate", entry.name, entry.title, entry.of_tags, old, new, limits, identical))
    return rows


def _tags(pairs: Sequence[Pair], limits: Range, identical: bool, binary: bool) -> list[Row]:
    """Over images. The tags of `before`, in the suite's order; none where prompts have no tags."""
    rows = []
    for tag in dict.fromkeys(pair.before.prompt.tag for pair in pairs):
        mine = [pair for pair in pairs if pair.before.prompt.tag == tag]
        old, new = _by_prompt(mine, "before"), _by_prompt(mine, "after")
        if tag:
            rows.append(_row("tag", tag, tag, False, old, new, limits, identical, binary=binary))
    return rows


def _by_prompt(pairs: Sequence[Pair], side: Literal["before", "after"]) -> dict[str, PromptValues]:
    out: dict[str, list[float]] = {}
    for pair in pairs:
        image: RunImage = getattr(pair, side)
        assert image.value is not None  # pairs have scores
        out.setdefault(image.prompt.id, []).append(image.value)
    tags = {pair.before.prompt.id: pair.before.prompt.tag for pair in pairs}
    return {name: PromptValues(tags[name], values) for name, values in out.items()}


def _row(
    kind: Literal["aggregate", "tag"],
    name: str,
    title: str,
    of_tags: bool,
    old: Mapping[str, PromptValues],
    new: Mapping[str, PromptValues],
    limits: Range,
    identical: bool,
    binary: bool | None = None,
) -> Row:
    shared = [key for key in old if key in new and len(old[key].values) and len(new[key].values)]
    old, new = ({key: side[key] for key in shared} for side in (old, new))
    if binary is None:
        binary = all(
            value in (0, 1) for side in (old, new) for prompt in side.values() for value in prompt.values
        ) and all(len(old[key].values) == len(new[key].values) for key in shared)
    means = [spread(side.values(), of_tags=of_tags) for side in (old, new)]
    moved = changes(old, new)
    return Row(
        kind=kind,
        name=name,
        title=title,
        of_tags=of_tags,
        before=means[0].value if means[0] else None,
        after=means[1].value if means[1] else None,
        # Of identical pictures a difference of nothing is no luck.
        difference=paired_difference(old, new, of_tags=of_tags, limits=(None, None) if identical else limits),
        p=permutation_p(moved, of_tags=of_tags),
        p_holm=None,
        p_mcnemar=mcnemar_p(old, new) if binary and not of_tags else None,
        changes=tuple(moved),
    )


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    p_values = {
        f"{i} {row.name}": row.p
        for i, comparison in enumerate(comparisons)
        for row in comparison.rows
        if row.kind == "tag" and row.p is not None
    }
    adjusted = multiple.holm(p_values)
    return [
        replace(
            comparison,
            rows=tuple(
                replace(row, p_holm=adjusted.get(f"{i} {row.name}")) if row.kind == "tag" else row
                for row in comparison.rows
            ),
        )
        for i, comparison in enumerate(comparisons)
    ]
