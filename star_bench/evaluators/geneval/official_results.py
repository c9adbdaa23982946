"""The official evaluator's result file, results.jsonl: one line per image, what was found in it and the verdict.

Format: djghosh13/geneval at af4902f (evaluate_images.py), restated. A line's columns are filename, tag, prompt,
correct, reason, metadata (the prompt's row, as a JSON string) and details (a JSON string: class -> [[x1, y1, x2, y2,
score], ...], the most confident first). Only what the verdict was based on is there: the detector's threshold and the
limit of 16 objects per class were applied before, and crops are not kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, RootModel

from star_bench.errors import UsageError
from star_bench.evaluators.geneval.metadata import Metadata, parse
from star_bench.evaluators.geneval.verdict import DetectedObject, Found
from star_bench.files.json import parse_json, read_objects

REMEDY = "mend that line, or evaluate again"


@dataclass(frozen=True)
class ResultRow:
    """One image. Tag and prompt repeat what metadata says; boxes are float32 pixels."""

    filename: str
    tag: str
    prompt: str
    correct: bool
    reason: str
    metadata: dict[str, Any]
    details: Found


class _Columns(BaseModel):
    """A line. Columns beyond the official ones are left out."""

    model_config = ConfigDict(strict=True)

    filename: str
    tag: str
    prompt: str
    correct: bool
    reason: str
    metadata: str
    details: str


_LARGEST = float(np.finfo(np.float32).max)
_Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False)]


class _Details(RootModel[dict[str, list[tuple[_Number, _Number, _Number, _Number, _Number]]]]):
    model_config = ConfigDict(strict=True)


def _row(line: str, where: str) -> ResultRow:
    columns = parse(_Columns, line, where, REMEDY)
    metadata = parse(Metadata, columns.metadata, f"{where}: metadata", REMEDY)
    if metadata.tag not in (None, columns.tag) or metadata.prompt not in (None, columns.prompt):
        raise UsageError(f"{where}: tag and prompt are not its metadata's", REMEDY)
    details = {
        name: [DetectedObject(name, score, np.array(box, np.float32)) for *box, score in boxes]
        for name, boxes in parse(_Details, columns.details, f"{where}: details", REMEDY).root.items()
    }
    return ResultRow(**{**columns.model_dump(), "metadata": parse_json(columns.metadata), "details": details})


def read_results(path: Path) -> list[ResultRow]:
    """All rows, in order; at least one.

    Raises UsageError, with the line's number, for a file that can't be read, is empty, or has a line that is not what
    the official evaluator writes.
    """
    rows = read_objects(path, "give the results.jsonl that GenEval's evaluator wrote")
    return [_row(row.text, row.where) for row in rows]


def to_line(row: ResultRow) -> str:
    """The row in the official columns, without a line end. A box number comes out as the float32 that it is."""
    details = {name: [[*o.box.tolist(), o.score] for o in objects] for name, objects in row.details.items()}
    return json.dumps({**vars(row), "metadata": json.dumps(row.metadata), "details": json.dumps(details)})
