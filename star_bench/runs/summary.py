"""Scores to results: aggregates and tags with intervals, and the denominators."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from star_bench.catalogue import licences
from star_bench.evaluators.base import Aggregate, Evaluator, Score, Status
from star_bench.runs.plan import Plan
from star_bench.runs.store import Key
from star_bench.statistics.bootstrap import METHOD, PromptValues, Range, estimate

SCHEMA = 1


def _per_prompt(plan: Plan, scores: dict[Key, Score], aggregate: Aggregate) -> list[PromptValues]:
    out = []
    for prompt in plan.prompts:
        mine = [scores[prompt.id, k] for k in range(plan.samples)]
        values = [aggregate.value(score) for score in mine if score.status is Status.OK]
        if aggregate.of_prompt:
            one = aggregate.of_prompt(values) if len(values) == len(mine) else None
            values = [] if one is None else [one]
        out.append(PromptValues(prompt.tag, values))
    return out


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}


def _named(aggregate: Aggregate) -> dict[str, Any]:
    return {"name": aggregate.name, "title": aggregate.title, "of_tags": aggregate.of_tags}


def _row(values: Iterable[PromptValues], limits: Range, *, of_tags: bool = False) -> dict[str, Any]:
    return _rounded(dataclasses.asdict(estimate(values, of_tags=of_tags, limits=limits)))


def _scores(plan: Plan, rows: dict[Key, dict[str, Any]]) -> dict[Key, Score]:
    return {
        item.key: Score(row["value"], Status(row["status"]), row["detail"])
        for item in plan.items
        for row in (rows[item.key],)
    }


def values(plan: Plan, evaluator: Evaluator, rows: dict[Key, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """values.jsonl: what each aggregate is made of, prompt by prompt, so that two runs can be compared in pairs."""
    scores = _scores(plan, rows)
    columns = {a.name: _per_prompt(plan, scores, a) for a in evaluator.aggregates}
    for i, prompt in enumerate(plan.prompts):
        yield {"prompt_id": prompt.id, "values": {name: column[i].values for name, column in columns.items()}}


def summarise(
    plan: Plan,
    evaluator: Evaluator,
    rows: dict[Key, dict[str, Any]],
    *,
    canaries: int,
    notices: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """results.json. Images without a score are in no mean and in `counts`; `complete` says that there are none.

    notices: as plain data.
    """
    scores = _scores(plan, rows)
    counts = Counter(score.status.value for score in scores.values())
    limits = plan.metric.range
    aggregates = [
        {**_named(a), **_row(_per_prompt(plan, scores, a), limits, of_tags=a.of_tags)} for a in evaluator.aggregates
    ]
    images = Aggregate("image_mean", "image mean")
    per_prompt = _per_prompt(plan, scores, images)
    tags = [
        {"tag": tag, **_row((p for p in per_prompt if p.tag == tag), limits)}
        for tag in dict.fromkeys(p.tag for p in plan.prompts)
        if tag
    ]
    return {
        "schema": SCHEMA,
        "model": {"name": plan.subject.name, "digest": plan.subject.digest, "licence": plan.subject.licence},
        "suite": plan.card.name,
        "title": plan.card.title,
        "metric": {**dataclasses.asdict(plan.metric), "identity": plan.metric.identity},
        "generation": "foreign" if plan.subject.foreign else "star-bench",
        "protocol": {"samples": plan.samples, **plan.protocol.as_dict()} if plan.protocol else None,
        "digest": plan.digest(),
        "subset": None if len(plan.prompts) == plan.of else {"limit": len(plan.prompts), "of": plan.of},
        "counts": {"planned": len(plan.items), **{s.value: counts.get(s.value, 0) for s in Status}},
        "complete": counts.get(Status.OK.value, 0) == len(plan.items),
        "aggregates": aggregates,
        "measures": evaluator.measures(),
        "tags": tags,
        "interval": METHOD,
        "notices": list(notices),
        "canaries": canaries,
        "judges": plan.judges,
        "licences": [dataclasses.asdict(part) for part in (*plan.subject.licences, *licences.of_suite(plan.card))],
        "published": [number.model_dump(mode="json") for number in plan.card.published],
    }
