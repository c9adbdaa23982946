"""A record for the EvalEval coalition's Every Eval Ever: https://github.com/evaleval/every_eval_ever, schema 0.3.0.

Written for language models, so what has no place of its own there stands in its additional_details, whose values are
strings. Nothing is invented: what the schema requires and no run knows is asked of the user, what it allows to be
unknown is "unknown", and what can't be said in it is left out and named.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from star_bench.analysis.caveats import notices
from star_bench.analysis.identity import identity_of, measure_of
from star_bench.errors import Incomplete, UsageError
from star_bench.runs.finished import AggregateEntry, Interval, Results
from star_bench.runs.manifest import Manifest

SCHEMA_VERSION = "0.3.0"
HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@.*)?")
LEVEL = re.compile(r"(?P<percent>\d+(\.\d+)?) %")
UNKNOWN = "unknown"


class Relationship(StrEnum):
    """Of who evaluated to who made the model: the schema's own words."""

    FIRST_PARTY = "first_party"
    THIRD_PARTY = "third_party"
    COLLABORATIVE = "collaborative"
    OTHER = "other"


@dataclass(frozen=True)
class Evaluated:
    """What no run knows. model_id: org/name; None takes that of a model that came from the Hub."""

    organisation: str
    relationship: Relationship
    model_id: str | None = None


def every_eval_ever(results: Results, manifest: Manifest, said: Evaluated) -> dict[str, Any]:
    """The record as plain data. Its time is the run's end, so that the same run gives the same record.

    Raises UsageError where the model's id is not known, Incomplete where the run has no end or its headline no value.
    """
    if manifest.finished is None or results.aggregates[0].value is None:
        lacking = "its end was not recorded" if manifest.finished is None else "its headline has no value"
        raise Incomplete(f"this run can't be a record: {lacking}", "give the same 'star-bench run' again to finish it")
    model_id = said.model_id or _hub_id(manifest)
    timestamp = str(int(manifest.finished.timestamp()))
    shown = [entry for entry in results.aggregates if not _left_out(results, entry)]
    left_out = {entry.name: why for entry in results.aggregates if (why := _left_out(results, entry))}
    tags = [entry for entry in results.tags if entry.value is not None]
    left_out |= {entry.tag: "it has no value" for entry in results.tags if entry.value is None}
    about = {"left out": left_out} if left_out else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{results.suite}/{model_id}/{timestamp}",
        "evaluation_timestamp": manifest.finished.isoformat(),
        "retrieved_timestamp": timestamp,
        "source_metadata": {
            "source_name": "star-bench",
            "source_type": "evaluation_run",
            "source_organization_name": said.organisation,
            "evaluator_relationship": said.relationship.value,
            "additional_details": _strings({"run digest": results.digest, "notices": notices(results), **about}),
        },
        "eval_library": {
            "name": "star-bench",
            "version": manifest.star_bench,
            "additional_details": _strings({"judges": results.judges, "versions": manifest.environment}),
        },
        "model_info": {
            "name": results.model.name,
            "id": model_id,
            "additional_details": _strings(
                {
                    "deployment_type": UNKNOWN if results.generation == "foreign" else "self_deployed",
                    "model_availability": UNKNOWN,
                    "content digest": results.model.digest,
                    "licence": results.model.licence,
                    "commit": manifest.source.get("commit") or UNKNOWN,
                }
            ),
        },
        "evaluation_results": [
            *(_result(results, manifest, entry, entry.name, entry.title, results.suite) for entry in shown),
            *(_result(results, manifest, e, "image_mean", e.tag, f"{results.suite}.{e.tag}") for e in tags),
        ],
    }


def every_eval_ever_json(results: Results, manifest: Manifest, said: Evaluated) -> str:
    return json.dumps(every_eval_ever(results, manifest, said), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _strings(details: dict[str, Any]) -> dict[str, str]:
    """additional_details: all values must be strings."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in details.items()
    }


def _hub_id(manifest: Manifest) -> str:
    match = HUB_ID.fullmatch(str(manifest.source.get("place"))) if manifest.source.get("commit") else None
    if match is None:
        raise UsageError("the run does not know its model's id on the Hub", "give --model-id ORG/NAME")
    return match["id"]


def _left_out(results: Results, entry: AggregateEntry) -> str | None:
    """Why an aggregate can't be said in the schema."""
    if entry.value is None:
        return "it has no value"
    measure = measure_of(results, entry.name)
    if measure is not None and measure.better == "none":
        return "the schema asks whether lower is better, and neither is"
    return None


def _result(
    results: Results, manifest: Manifest, entry: Interval, measure: str, title: str, evaluation: str
) -> dict[str, Any]:
    details = {
        "identity": identity_of(results, measure),
        "images": entry.n_images,
        "prompts": entry.n_prompts,
        "counts": results.counts.model_dump(),
        "subset": results.subset and results.subset.model_dump(),
    }
    return {
        "evaluation_name": evaluation,
        "source_data": _source(results, manifest),
        "metric_config": _metric(results, measure, title),
        "score_details": {"score": entry.value, "details": _strings(details), **_uncertainty(results, entry)},
        "generation_config": {
            "additional_details": _strings(results.protocol or {"images": "made elsewhere, how is not known"})
        },
    }


def _metric(results: Results, measure: str, title: str) -> dict[str, Any]:
    found = measure_of(results, measure)
    low, high = results.metric.range
    ends = {} if low is None or high is None else {"score_type": "continuous", "min_score": low, "max_score": high}
    return {
        "metric_id": f"{results.suite}.{measure}",
        "metric_name": title,
        "metric_unit": found.unit if found else results.metric.unit,
        "lower_is_better": False,  # of the suite's metrics and measures none is; descriptions are left out
        **ends,  # the schema has no word for a metric without ends; its type is then left open
        "additional_details": _strings(
            {"implementation": identity_of(results, measure), "paper": results.metric.paper or UNKNOWN}
        ),
    }


def _uncertainty(results: Results, entry: Interval) -> dict[str, Any]:
    if entry.low is None or entry.high is None:
        return {}
    interval: dict[str, Any] = {"lower": entry.low, "upper": entry.high, "method": results.interval}
    if level := LEVEL.match(results.interval):
        interval["confidence_level"] = float(level["percent"]) / 100
    return {"uncertainty": {"confidence_interval": interval}}


def _source(results: Results, manifest: Manifest) -> dict[str, Any]:
    """Where the prompts are from: a file in a public repository, or what comes with the suite."""
    prompts = manifest.suite.get("prompts") or {}
    pinned = _strings({"sha256": prompts.get("sha256") or UNKNOWN, "prompts": len(manifest.prompts)})
    named = {"dataset_name": results.suite, "additional_details": pinned}
    if not prompts.get("repository"):
        return {**named, "source_type": "other"}
    at = f"{prompts['repository']}/blob/{prompts.get('revision') or 'HEAD'}/{prompts.get('path')}"
    return {**named, "source_type": "url", "url": [f"https://github.com/{at}"]}
