"""rapidocr (PP-OCRv6 small on ONNX Runtime) as the recogniser: its models are in the wheel, so it works offline."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from star_bench.catalogue.cards import Strict, parse
from star_bench.errors import MissingWeights
from star_bench.evaluators.base import Image
from star_bench.files.digests import digest_of

DETECTION, RECOGNITION = "PP-OCRv6_det_small", "PP-OCRv6_rec_small"


class RapidOcrSettings(Strict):
    """What can change the text that is read. Defaults are those of Flow-GRPO's reader, PaddleOCR 2.9.1."""

    det_limit_type: Literal["max", "min"] = "max"
    """Which side of the image det_limit_side_len bounds."""
    det_limit_side_len: int = Field(default=960, ge=32)
    angle_classifier: bool = False
    drop_score: float = Field(default=0.5, ge=0, le=1)
    """Strings that are recognised with less confidence are not read."""


class RapidOcr:
    """The Recogniser "rapidocr"."""

    implementation = f"rapidocr {DETECTION} + {RECOGNITION}"
    licence = "Apache-2.0"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = parse(RapidOcrSettings, dict(settings), "judges.settings of rapidocr")
        self.version = version("rapidocr")

    def read(self, image: Image) -> list[str]:
        """The strings in an image (H, W, 3) uint8. As in Flow-GRPO, RGB goes in though the models know BGR."""
        return list(getattr(self._engine(image), "txts", None) or ())

    def judges(self) -> dict[str, str]:
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self._models}
        return {
            "rapidocr": self.version,
            "rapidocr settings": digest_of(self.settings.model_dump()),
            **digests,
        }

    @cached_property
    def _models(self) -> tuple[Path, Path]:
        """The files of the detection and the recognition model."""
        spec = importlib.util.find_spec("rapidocr")  # finds the package without importing it
        folder = Path(str(spec.origin if spec else "")).parent / "models"
        paths = folder / f"{DETECTION}.onnx", folder / f"{RECOGNITION}.onnx"
        for path in paths:
            if not path.is_file():
                raise MissingWeights(
                    f"rapidocr {self.version} has no {path.name} in {folder}",
                    "install the rapidocr that constraints.txt pins; its wheel holds the models",
                )
        return paths

    @cached_property
    def _engine(self) -> Any:
        detection, recognition = self._models
        from rapidocr import RapidOCR

        settings = self.settings
        return RapidOCR(
            params={
                # Named files are never fetched; by default rapidocr would download what it does not find.
                "Det.model_path": str(detection),
                "Rec.model_path": str(recognition),
                "Det.limit_type": settings.det_limit_type,
                "Det.limit_side_len": settings.det_limit_side_len,
                "Global.use_cls": settings.angle_classifier,
                "Global.text_score": settings.drop_score,
                "Global.log_level": "critical",  # it warns at every image without text
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,  # the processes are what is parallel
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
