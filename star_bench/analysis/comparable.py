"""May two runs' numbers be put side by side? Every reason why not, in words.

Only the model may differ. Everything else that a number depends on must be the same: what measured it, on which
prompts, under which protocol, and over all of the images.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from star_bench.errors import Incomplete, Refused
from star_bench.runs.finished import PromptRow, RunFiles

NONE = "none"
SHA256 = re.compile(r"[0-9a-f]{64}")
MOST_NAMES = 4
"""Differences that a remedy names one by one; of more it names the parts (chosen here)."""


class Part(StrEnum):
    """What a difference belongs to, and so what it would mean to waive it."""

    METRIC = "metric"
    PROMPTS = "prompts"
    PROTOCOL = "protocol"
    COMPLETENESS = "completeness"


@dataclass(frozen=True)
class Difference:
    """field: a name for programs, such as "unit", "judge detector" or "steps". first, second: the values as text."""

    part: Part
    field: str
    first: str
    second: str
    words: str
    """Part of a sentence: "they differ in steps (40 in the first and 20 in the second)"."""


REMEDIES = {
    Part.METRIC: "measure both with the same suite, judges and version of star-bench",
    Part.PROMPTS: "run both on the same prompts",
    Part.PROTOCOL: "run one of them again with the other's settings",
    Part.COMPLETENESS: "give the same 'star-bench run' again to make it whole",
}


def differences(first: RunFiles, second: RunFiles) -> list[Difference]:
    """All that keeps two runs from being compared, what weighs most first; empty where they may be."""
    return [found for look in (_metric, _prompts, _protocol, _completeness) for found in look(first, second)]


def check_comparable(first: RunFiles, second: RunFiles, allow: Collection[str] | None = None) -> list[Difference]:
    """Returns the differences, all of which `allow` names: by their field ("steps") or their part ("protocol").

    Raises Refused with the first of the others in words, Incomplete where all that keeps the runs apart is a missing
    score. allow: None where nothing can be waived, so that the remedy does not speak of it.
    """
    found = differences(first, second)
    left = [each for each in found if not waived(each, allow or ())]
    if left:
        kind = Incomplete if left[0].part is Part.COMPLETENESS else Refused
        names = f"{first.folder} and {second.folder}"
        remedy = REMEDIES[left[0].part] + (
            "" if allow is None else f", or compare them all the same with {_allow(left)}"
        )
        raise kind(f"{names} can't be compared, because {left[0].words}", remedy)
    return found


def waived(found: Difference, allow: Collection[str]) -> bool:
    """Whether `allow` names this difference."""
    return found.part.value in allow or found.field in allow


def _allow(left: Sequence[Difference]) -> str:
    """The options that waive all of these."""
    fields = dict.fromkeys(each.field for each in left)
    names = fields if len(fields) <= MOST_NAMES else dict.fromkeys(each.part.value for each in left)
    return " ".join(f"--allow {shlex.quote(name)}" for name in names)


def _shown(value: Any) -> str:
    """A digest needs no more than its first digits to be told from another."""
    if isinstance(value, str):
        return value[:12] if SHA256.fullmatch(value) else repr(value)
    return NONE if value is None else str(value)


def _compared(part: Part, name: str, a: Any, b: Any, what: str = "") -> Iterator[Difference]:
    """what: how the field is called in a sentence, by default by its name."""
    if a != b:
        first, second = _shown(a), _shown(b)
        words = f"they differ in {what or name} ({first} in the first and {second} in the second)"
        yield Difference(part, name, first, second, words)


def _each(part: Part, pair: Sequence[Mapping[str, Any]], kind: str = "") -> Iterator[Difference]:
    """Of two mappings, name by name; kind goes before the name."""
    for name in dict.fromkeys(name for each in pair for name in each):
        first, second = (each.get(name) for each in pair)
        yield from _compared(part, kind + name, first, second)


def flat_settings(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Settings by their dotted names, without what changes no score: where weights lie (their digests say what they
    are), and what may be done with them.
    """
    if isinstance(value, list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("weights", "licence"):
                yield from flat_settings(inner, f"{name}.{key}")
    else:
        yield name, value


def _metric(first: RunFiles, second: RunFiles) -> Iterator[Difference]:
    a, b = first.results, second.results
    for name in ("name", "implementation", "unit", "version"):
        one, other = getattr(a.metric, name), getattr(b.metric, name)
        yield from _compared(Part.METRIC, name, one, other, f"the metric's {name}")
    measures = [{m.name: f"{m.implementation} [{m.unit}] {m.version}" for m in run.measures} for run in (a, b)]
    yield from _each(Part.METRIC, measures, "measure ")
    yield from _each(Part.METRIC, (a.judges, b.judges), "judge ")
    settings = [dict(flat_settings(run.suite.get("judges"), "judges")) for run in (first, second)]
    yield from _each(Part.METRIC, settings)


def _prompts(first: RunFiles, second: RunFiles) -> Iterator[Difference]:
    yield from _compared(Part.PROMPTS, "suite", first.results.suite, second.results.suite)
    a, b = first.prompts, second.prompts
    only_a, only_b = [name for name in a if name not in b], [name for name in b if name not in a]
    if only_a or only_b:
        sizes = f"{len(a)} prompts", f"{len(b)} prompts"
        if only_a and only_b:
            words = f"the prompts differ: {len(only_a)} are only in the first and {len(only_b)} only in the second"
        else:
            words = f"the first has {sizes[0]} and the second {sizes[1]}, one a subset of the other"
        yield Difference(Part.PROMPTS, "prompts", *sizes, words)
    for name in ("text", "tag", "metadata"):
        yield from _changed(name, a, b)


def _changed(name: str, a: Mapping[str, PromptRow], b: Mapping[str, PromptRow]) -> Iterator[Difference]:
    """One difference for all prompts that are not the same in this, with the first of them as the example."""
    changed = [key for key in a if key in b and getattr(a[key], name) != getattr(b[key], name)]
    if changed:
        key = changed[0]
        one, other = _shown(getattr(a[key], name)), _shown(getattr(b[key], name))
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        words = f"they differ in the {name} of prompt {key!r}{more} ({one} in the first and {other} in the second)"
        yield Difference(Part.PROMPTS, f"prompt {name}", one, other, words)


def _samples(run: RunFiles) -> int:
    """Images per prompt."""
    return run.results.counts.planned // max(len(run.prompts), 1)


def _protocol(first: RunFiles, second: RunFiles) -> Iterator[Difference]:
    """Pictures made elsewhere have no protocol: among themselves there is nothing to hold against each other."""
    a, b = first.results, second.results
    yield from _compared(Part.PROTOCOL, "origin of the images", a.generation, b.generation)
    yield from _compared(Part.PROTOCOL, "samples", _samples(first), _samples(second), "the number of images per prompt")
    if a.protocol is not None and b.protocol is not None:
        rest = [{name: value for name, value in p.items() if name != "samples"} for p in (a.protocol, b.protocol)]
        yield from _each(Part.PROTOCOL, rest)


def _completeness(first: RunFiles, second: RunFiles) -> Iterator[Difference]:
    a, b = (f"{run.results.counts.ok} of {run.results.counts.planned}" for run in (first, second))
    if not (first.results.is_complete and second.results.is_complete):
        words = f"not all images have a score: {a} in the first and {b} in the second"
        yield Difference(Part.COMPLETENESS, "scores", a, b, words)
