"""The store of scores: runs/<model>/<suite>/<digest>/, what one suite's judge says of a set of pictures.

manifest.json names the pictures by their digest; beside it prompts.jsonl, scores.jsonl, values.jsonl and results.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from star_bench.runs.store import Store, held

SCORES = "scores.jsonl"
RESULTS = "results.json"


class ScoreStore(Store):
    """The scores of a plan. Use `open_scores` to get one that may write."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SCORES)


@contextmanager
def open_scores(folder: Path) -> Iterator[ScoreStore]:
    """The store of scores, for one writer at a time. Raises Locked."""
    with held(folder):
        yield ScoreStore(folder)
