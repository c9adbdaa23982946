"""All scores of runs as one table for pandas and duckdb: a row per image, typed columns, Parquet."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from star_bench.errors import UsageError
from star_bench.files.atomic import replacing
from star_bench.runs.finished import RunFiles

TEXTS = ("model", "suite", "metric", "run", "prompt_id", "prompt", "tag", "status", "picture", "sha256")
TYPES = {
    **dict.fromkeys(TEXTS, "string"),
    **dict.fromkeys(("k", "seed"), "Int64"),
    "value": "Float64",
    "detail": "string",
}
"""Column -> pandas' type, each of which knows a missing value. value is missing exactly where status is not ok; seed is that
of the run; detail is the judge's own, as JSON."""


def scores_frame(runs: Sequence[RunFiles]) -> pd.DataFrame:
    """A row per planned image of each run, in the prompts' order, with the columns of TYPES."""
    rows = []
    for run in runs:
        results = run.results
        seed = (results.protocol or {}).get("seed")
        for image in run.images:
            rows.append(
                (
                    *(results.model.name, results.suite, results.metric.identity, results.digest),
                    *(image.prompt.id, image.prompt.text, image.prompt.tag, image.status.value),
                    image.sample and image.sample.path,
                    image.sample and image.sample.sha256,
                    *(image.k, seed, image.value),
                    image.score and json.dumps(image.score.detail, ensure_ascii=False),
                )
            )
    return pd.DataFrame(rows, columns=list(TYPES)).astype(TYPES)


def write_parquet(runs: Sequence[RunFiles], out: Path) -> int:
    """Writes the table, atomically; returns how many rows it has. Raises UsageError where pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError("Parquet is written by pyarrow, which is not installed", "pip install 'star-bench[parquet]'")
    shown = scores_frame(runs)
    with replacing(out) as partial:
        shown.to_parquet(partial, engine="pyarrow", index=False)
    return len(shown)
