"""What a recogniser reads in a person's own pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from star_bench.evaluators.ocr.reader import OcrJudge, Reader
from star_bench.files.pictures import read_picture


def inspect(images: Sequence[Path], *, recogniser: str, upscale: int) -> tuple[list[dict[str, Any]], list[str]]:
    """One row per picture: image, read (its strings; None where reading failed), implementation; and what failed.

    Raises UsageError, before any model loads, for a picture or a recogniser that is not there; MissingWeights.
    """
    pictures = [read_picture(path) for path in images]
    reader = Reader(OcrJudge(recogniser=recogniser, upscale=upscale))
    reader.judges()  # MissingWeights, before a process starts
    named = f"{reader.implementation} {reader.recogniser.version}"
    readings = reader.read(pictures)
    rows = [
        {"image": str(path), "read": reading.strings, "implementation": named}
        for path, reading in zip(images, readings, strict=True)
    ]
    failed = [f"{path}: {reading.error}" for path, reading in zip(images, readings, strict=True) if reading.error]
    return rows, failed
