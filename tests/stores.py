"""A run's two folders: where a file of it lies, and a copy of both."""

from __future__ import annotations

import shutil
from pathlib import Path

from star_bench.runs.finished import pictures_folder


def copy_of(run: Path, to: Path) -> Path:
    """The run in a copy of all that its model has, below `to`: scores and pictures keep their places to each other."""
    model = run.parents[1]
    return Path(shutil.copytree(model, to / model.name)) / run.relative_to(model)


def file_of(run: Path, name: str) -> Path:
    """samples.jsonl and pictures are those of the folder of pictures."""
    of_pictures = name == "samples.jsonl" or name.startswith("images/")
    return (pictures_folder(run) if of_pictures else run) / name
