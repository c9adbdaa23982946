"""Which of a picture's detections GenEval's verdict looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from star_bench.evaluators.geneval.verdict import DetectedObject, Found

if TYPE_CHECKING:  # it brings torch, and who asks for GenEval's prompts needs none
    from star_bench.evaluators.geneval.detection.postprocess import Detections

THRESHOLD = 0.3
COUNTING_THRESHOLD = 0.9
MAX_OBJECTS = 16
"""The official evaluator's defaults: a score must be above, and of a class the most confident 16 count."""


def keep(detections: Detections, names: Sequence[str], threshold: float, max_objects: int = MAX_OBJECTS) -> Found:
    """The detections with score > threshold, compared in float32, by class; at most so many of each.

    names are the classes by class index. Classes come in their index's order, as in the official result file.
    """
    found: Found = {}
    for i in np.nonzero(detections.scores > np.float32(threshold))[0]:
        name = names[detections.labels[i]]
        kept = found.setdefault(name, [])
        if len(kept) < max_objects:
            kept.append(DetectedObject(name, float(detections.scores[i]), detections.boxes[i], int(i)))
    return {name: found[name] for name in names if name in found}
