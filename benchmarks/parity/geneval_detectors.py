"""GenEval's detector against mmdet's own, in the official architecture and size: writes docs/parity.md.

Run as `make parity`. Exit 1 where a tolerance is broken; the report is written all the same.
"""

from __future__ import annotations

import math
import sys
import tempfile
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import get_args

from benchmarks.parity.detectors import (
    TOLERANCE,
    Parity,
    Seen,
    compare,
    look,
    pictures,
    worst,
    write_random,
)
from benchmarks.parity.mmdet_detector import MmdetDetector
from star_bench.evaluators.geneval.detection.architecture import OFFICIAL
from star_bench.evaluators.geneval.detection.detector import TransformersDetector
from star_bench.evaluators.geneval.detection.preprocess import OFFICIAL_RESIZE, Preprocessing

REPORT = Path(__file__).parents[2] / "docs" / "parity.md"
SIZES = ((512, 512), (480, 640))
"""Height and width: one that fills the network's input, and one that is padded."""
FIGURES = {
    "class_logits": "class logits, largest difference",
    "mask_logits": "mask logits, largest difference",
    "flipped": "share of flipped queries",
    "flipped_logits": "logits of flipped queries, largest difference",
    "pairs": "(query, class) pairs in the best 100 of one only",
    "detections": "detections without a counterpart of their class",
    "score": "scores, largest difference",
    "box": "boxes, largest difference in px",
}
TEXT = """# GenEval's detector against mmdet's own

`star-bench` judges GenEval with transformers' Mask2Former, between pre- and post-processing of its own. The official
evaluator uses mmdet. Here both see the same pictures with the same weights: the plugin `transformers`, and the plugin
`mmdet`, which is mmdet's model, configuration and `inference_detector`.

The weights are random, in the official architecture ({parameters:,} parameters), drawn so that logits range over tens. The
pictures are drawn too, {sizes} px, and resized to a short side of {short} px, {long} at most for the long one.
`mmdet-2.x` and `mmdet-3.x` are two ways to prepare a picture; the former is GenEval's own.

| figure, at worst over the pictures | tolerance | {names} |
|---|---|{lines}|
{rows}

Ranges, to hold the differences against: {ranges}.

In `mmdet-2.x` the two networks' inputs are the same to the bit; in `mmdet-3.x`, which resizes in floating point, to 1e-6.

A *flipped* query is one that, in some layer, attended to a pixel more or less: Mask2Former's attention leaves out the pixels
whose mask logit is negative, and where a logit is zero but for rounding, rounding decides. This happens between any two runs
whose sums are taken in another order. Such queries' logits are shown apart; their detections count like all others.

`tests/benchmarks/test_mmdet_parity.py` does the same in a small architecture and on the miniature's trained one, and
shows that a wrong order of colours or of merged patches breaks these tolerances.

Made with {versions}; on the CPU, in float32, with one thread.
`make parity` makes it again.
"""


def main() -> int:
    results: dict[Preprocessing, Parity] = {}
    ranges: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random(folder, OFFICIAL, OFFICIAL_RESIZE)
        for preprocessing in get_args(Preprocessing):
            ours = TransformersDetector(folder, preprocessing=preprocessing)
            theirs = MmdetDetector(folder, preprocessing=preprocessing)
            seen = [(look(ours, picture), look(theirs, picture)) for picture in pictures(SIZES)]
            results[preprocessing] = worst([compare(*pair) for pair in seen])
            ranges.append(f"{preprocessing} {_ranges([pair[0] for pair in seen])}")
            parameters = sum(tensor.numel() for tensor in theirs.model.parameters())
    REPORT.write_text(
        TEXT.format(
            parameters=parameters,
            sizes=" and ".join(f"{width} x {height}" for height, width in SIZES),
            short=OFFICIAL_RESIZE.short,
            long=OFFICIAL_RESIZE.long,
            names=" | ".join(results),
            lines="|".join("---" for _ in results),
            rows="\n".join(_row(field.name, list(results.values())) for field in fields(Parity)),
            ranges="; ".join(ranges),
            versions=", ".join(
                f"{package} {version(package)}"
                for package in ("torch", "transformers", "mmdet", "mmengine", "mmcv-lite", "opencv-python-headless")
            ),
        ),
        encoding="utf-8",
    )
    sys.stdout.write(f"{REPORT.relative_to(REPORT.parents[1])}\n")
    broken = [f"{name}: {figure}" for name, parity in results.items() for figure in parity.broken()]
    if broken:
        sys.stderr.write(f"broken tolerances: {', '.join(broken)}\n")
    return 1 if broken else 0


def _row(figure: str, results: list[Parity]) -> str:
    limit = getattr(TOLERANCE, figure)
    values = " | ".join(f"{getattr(parity, figure):.2g}" for parity in results)
    return f"| {FIGURES[figure]} | {'none' if math.isinf(limit) else f'{limit:g}'} | {values} |"


def _ranges(seen: list[Seen]) -> str:
    classes, masks = (
        (min(float(each.min()) for each in logits), max(float(each.max()) for each in logits))
        for logits in ([each.class_logits for each in seen], [each.mask_logits for each in seen])
    )
    return f"class logits {classes[0]:.0f} to {classes[1]:.0f}, mask logits {masks[0]:.0f} to {masks[1]:.0f}"


if __name__ == "__main__":
    sys.exit(main())
