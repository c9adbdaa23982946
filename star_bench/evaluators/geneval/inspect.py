"""The detector's own view of pictures, for people who ask why one failed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_bench.catalogue import plugins
from star_bench.errors import MissingWeights
from star_bench.evaluators.base import Image

if TYPE_CHECKING:
    from star_bench.evaluators.geneval.detection.detector import Detector


def check_weights(folder: Path) -> None:
    """Raises MissingWeights for a folder without weights."""
    if not any(folder.glob("*.safetensors")):
        raise MissingWeights(f"{folder} holds no safetensors", "give a folder that 'star-bench geneval convert' wrote")


def inspect(
    weights: Path, pictures: Mapping[Path, Image], *, threshold: float, plugin: str, preprocessing: str, device: str
) -> list[dict[str, Any]]:
    """One row per detection, picture by picture, the most confident first.

    box is x1, y1, x2, y2 and mask_area is in pixels of the picture. Raises MissingWeights for a folder without weights,
    UsageError for an unknown preprocessing, and what the detector raises.
    """
    from star_bench.evaluators.geneval.detection.preprocess import check_preprocessing

    check_weights(weights)
    known = check_preprocessing(preprocessing)
    detector: Detector = plugins.load(plugins.DETECTORS, plugin)(weights, device=device, preprocessing=known)
    rows = []
    for path, picture in pictures.items():  # one at a time: masks of 100 queries are large
        (seen,) = detector.detect([picture], [threshold])
        for label, score, box, mask in zip(seen.labels, seen.scores, seen.boxes, seen.masks, strict=True):
            rows.append(
                {
                    "image": str(path),
                    "class": detector.names[label],
                    "label": int(label),
                    "score": float(score),
                    "box": box.tolist(),
                    "mask_area": int(mask.sum()),
                }
            )
    return rows
