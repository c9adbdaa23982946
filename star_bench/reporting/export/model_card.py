"""A section for a model card: `model-index` metadata, which the Hub reads, and the report that a person reads.

The metadata is huggingface_hub's own (`EvalResult`, `ModelCardData`).
"""

from __future__ import annotations

import re
from typing import Any

from star_bench.analysis.caveats import shortcomings
from star_bench.analysis.identity import identity_of
from star_bench.reporting.tables import report_markdown
from star_bench.runs.finished import AggregateEntry, Results

TASK = "text-to-image"


def model_card(results: Results, *, model_name: str | None = None) -> str:
    """A README.md with the run's metadata and section, to be merged into the model's own.

    Aggregates without a value are in the section and not in the metadata. Numbers that other people published are in
    neither: a model's card is no place for other models' numbers.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    own = results.model_copy(update={"published": []})
    entries = [
        EvalResult(
            task_type=TASK,
            dataset_type=results.suite,
            dataset_name=results.title,
            dataset_args=_setting(results),
            metric_type=results.metric.name,
            metric_name=_metric_name(results, entry),
            metric_value=entry.value,
            metric_args=_about(results, entry),
        )
        for entry in results.aggregates
        if entry.value is not None
    ]
    data = ModelCardData(model_name=model_name or results.model.name, eval_results=entries or None)
    section = re.sub(r"^#", "##", report_markdown(own), flags=re.MULTILINE)
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{section}"))


def _metric_name(results: Results, entry: AggregateEntry) -> str:
    """With what is not whole, since the Hub shows this name beside the number and nothing else."""
    marks = [mark.split(":")[0] for mark in shortcomings(results)]
    return f"{entry.title} ({'; '.join(marks)})" if marks else entry.title


def _setting(results: Results) -> dict[str, Any]:
    """What all numbers of the run share."""
    return {
        "subset": results.subset and results.subset.model_dump(),
        "protocol": results.protocol,
        "notices": shortcomings(results),
        "digest": results.digest,
        "judges": results.judges,
    }


def _about(results: Results, entry: AggregateEntry) -> dict[str, Any]:
    """What this number is."""
    return {
        "identity": identity_of(results, entry.name),
        "low": entry.low,
        "high": entry.high,
        "interval": results.interval,
        "images": entry.n_images,
        "prompts": entry.n_prompts,
    }
