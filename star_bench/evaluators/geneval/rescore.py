"""The verdicts of an official result file, recomputed from the detections that it records."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from star_bench.evaluators.geneval.metadata import Metadata
from star_bench.evaluators.geneval.official_results import ResultRow
from star_bench.evaluators.geneval.prompts import TAGS, official
from star_bench.evaluators.geneval.verdict import judge

SHOWN = 5  # names in a sentence, chosen here; the JSON has all


@dataclass(frozen=True)
class Rescored:
    """rows have the new verdicts, in the old order; changed pairs (recorded, new) where `correct` is another.

    contradictions were recorded as right, though they hold fewer objects of a coloured class than asked.
    """

    rows: list[ResultRow]
    taken_over: int
    changed: list[tuple[ResultRow, ResultRow]]
    contradictions: list[ResultRow]

    def summary(self) -> dict[str, Any]:
        """Plain data: counts, what changed, the scores, and whether the official set is complete.

        Scores are shares in [0, 1]. Rows are of one prompt where their metadata ask for the same, whatever their words
        and free keys. official_prompts_missing, missing_prompts and complete are None where a row asks for something that
        is not official; repeated_rows are files that stand on more than one. Raises Refused where the official prompts
        can't be generated.
        """
        expected = {_asked(metadata, metadata["tag"]): metadata["prompt"] for metadata in official()}
        asked = [_asked(row.metadata, row.tag) for row in self.rows]
        seen = set(asked)
        is_official = expected.keys() >= seen
        # Of a set of one's own, two texts may ask for the same.
        keys = [(scene, "" if is_official else row.prompt) for scene, row in zip(asked, self.rows, strict=True)]
        tags = _grouped((row.tag, row.correct) for row in self.rows)
        prompts = _grouped((key, row.correct) for key, row in zip(keys, self.rows, strict=True))
        counts = [len(images) for images in prompts.values()]
        missing = [text for scene, text in expected.items() if scene not in seen] if is_official else None
        files = Counter(row.filename for row in self.rows)
        repeated = [name for name, times in files.items() if times > 1]
        whole = not missing and min(counts) == max(counts) and not repeated
        return {
            "rows": len(self.rows),
            "prompts": len(prompts),
            "recomputed": len(self.rows) - self.taken_over,
            "taken_over": self.taken_over,
            "changed": [
                {"filename": new.filename, "was": was.correct, "now": new.correct, "reason": new.reason}
                for was, new in self.changed
            ],
            "contradictions": [row.filename for row in self.contradictions],
            "overall": fmean(fmean(images) for images in tags.values()),
            "image_mean": fmean(row.correct for row in self.rows),
            "all_images": fmean(all(images) for images in prompts.values()),
            "tags": {
                tag: {"value": fmean(tags[tag]), "images": len(tags[tag])} for tag in sorted(tags, key=_tag_order)
            },
            "official_prompts_missing": None if missing is None else len(missing),
            "missing_prompts": missing,
            "repeated_rows": repeated,
            "images_per_prompt": {"min": min(counts), "max": max(counts)},
            "complete": None if missing is None else whole,
        }


def readable(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A summary as rows for a table: GenEval's measures, each with its number of images or prompts."""
    rows = [
        ("overall (mean of tag means over images)", summary["overall"], summary["rows"]),
        ("image mean", summary["image_mean"], summary["rows"]),
        ("prompts with all images right", summary["all_images"], summary["prompts"]),
        *((tag, each["value"], each["images"]) for tag, each in summary["tags"].items()),
    ]
    return [{"measure": name, "value": f"{value:.4f}", "of": number} for name, value, number in rows]


def warnings(summary: dict[str, Any]) -> list[str]:
    """What a reader of the numbers must know: incomplete sets, verdicts that are not ours, verdicts that changed."""
    out = []
    if missing := summary["missing_prompts"]:
        out.append(
            f"incomplete: {len(missing)} of GenEval's {summary['prompts'] + len(missing)} prompts have no image "
            f"({_few(missing)}), so these are not GenEval scores"
        )
    if repeated := summary["repeated_rows"]:
        out.append(f"{len(repeated)} images stand on more than one row and count more than once ({_few(repeated)})")
    fewest, most = summary["images_per_prompt"].values()
    if fewest != most:
        out.append(f"incomplete: some prompts have {fewest} images and others {most}")
    out.append(
        f"{summary['recomputed']} of {summary['rows']} verdicts were recomputed, {len(summary['changed'])} changed; "
        f"{summary['taken_over']} ask for a colour and were taken over as recorded"
    )
    if contradictions := summary["contradictions"]:
        out.append(
            f"{len(contradictions)} of those were recorded as right though their details lack an object, "
            f"the first {contradictions[0]}"
        )
    return out


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def _grouped(pairs: Iterable[tuple[Hashable, bool]]) -> dict[Any, list[bool]]:
    groups: dict[Any, list[bool]] = defaultdict(list)
    for key, correct in pairs:
        groups[key].append(correct)
    return groups


def _asked(metadata: dict[str, Any], tag: str) -> str:
    return Metadata.model_validate_json(json.dumps({**metadata, "tag": tag})).asked()


def _tag_order(tag: str) -> int:
    return TAGS.index(tag) if tag in TAGS else len(TAGS)


def _colored(row: ResultRow) -> list[dict[str, Any]]:
    return [clause for clause in row.metadata.get("include", []) if "color" in clause]


def _is_contradiction(row: ResultRow) -> bool:
    return row.correct and any(len(row.details.get(c["class"], [])) < c["count"] for c in _colored(row))


def _rejudged(row: ResultRow) -> ResultRow:
    """The row with its new verdict."""
    colored = _colored(row)
    if colored and (not row.correct or _is_contradiction(row)):
        return row
    # A clause with a colour was good, so only its number is left to see. It stays, since positions refer to it.
    include = [
        {"class": clause["class"], "count": clause["count"]} if "color" in clause else clause
        for clause in row.metadata.get("include", [])
    ]
    verdict = judge({**row.metadata, "include": include}, row.details, lambda objects: [])
    return row if colored and verdict.correct else replace(row, correct=verdict.correct, reason=verdict.reason)


def rescore(rows: Sequence[ResultRow]) -> Rescored:
    """New verdicts for at least one row, from the recorded detections in their order, whatever their scores.

    Colours can't be judged again, since the file holds no crops. So a row with a coloured clause counts as taken over:
    recorded as wrong it stays wrong, recorded as right it stays right if its clauses without a colour and its exclude
    clauses are good. A contradiction keeps its verdict and is listed.
    """
    new = [_rejudged(row) for row in rows]
    return Rescored(
        rows=new,
        taken_over=sum(bool(_colored(row)) for row in rows),
        changed=[(old, row) for old, row in zip(rows, new, strict=True) if old.correct != row.correct],
        contradictions=[row for row in rows if _is_contradiction(row)],
    )
