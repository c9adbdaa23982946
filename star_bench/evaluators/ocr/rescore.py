"""Scores of readings that were made elsewhere: the rule alone, without a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from star_bench.catalogue.cards import wrong
from star_bench.errors import UsageError
from star_bench.evaluators.ocr.rule import accuracy, distance, target_of
from star_bench.files.json import read_objects


class _Row(BaseModel):
    """A line. Other keys are left out."""

    model_config = ConfigDict(strict=True)

    prompt: str
    read: list[str]


def rescore(path: Path) -> dict[str, Any]:
    """{"images", "accuracy" (mean), "exact" (share of accuracy 1), "rows": [{"target", "read", "distance", "accuracy"}]}.

    Raises UsageError, with the line's number, for a file that can't be read, is empty, or has a line that is no JSON
    object with a prompt that quotes one target and a list of strings.
    """
    readings = list(_readings(path))
    values = [accuracy(target, read) for target, read in readings]
    return {
        "images": len(values),
        "accuracy": fmean(values),
        "exact": fmean(value == 1.0 for value in values),
        "rows": [
            {"target": target, "read": read, "distance": distance(target, read), "accuracy": value}
            for (target, read), value in zip(readings, values, strict=True)
        ],
    }


def _readings(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Target and strings of each line; at least one."""
    for line in read_objects(path, 'write lines such as {"prompt": "a \\"cat\\"", "read": ["CAT"]}'):
        try:
            row = _Row.model_validate_json(line.text)
            yield target_of(row.prompt), row.read
        except ValidationError as error:
            problem = ": ".join(filter(None, (line.where, *wrong(error))))
            raise UsageError(problem, "mend that line") from None
        except ValueError as error:
            raise UsageError(f"{line.where}: the prompt {error}", "mend that line") from None
