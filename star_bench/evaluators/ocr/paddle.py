"""PaddleOCR 2.9.1's English reader as a recogniser: the published protocol of Flow-GRPO. An extra, star-bench[paddleocr].

Without the angle classifier, drop score .5, on the CPU, and RGB goes in though the models know BGR. Nothing is
downloaded: PaddleOCR is given every folder that it would otherwise fill.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import Field

from star_bench.assets.weights import weights_folder
from star_bench.catalogue.cards import Strict, parse
from star_bench.errors import MissingWeights, Refused, UsageError
from star_bench.evaluators.base import Image
from star_bench.files.digests import digest_of, sha256_of

VERSION = "2.9.1"
DETECTION, RECOGNITION = "en_PP-OCRv3_det_infer", "en_PP-OCRv4_rec_infer"  # PaddleOCR 2.9.1's choice for lang="en"
FILES = "inference.pdmodel", "inference.pdiparams"
SOURCES = (
    f"https://paddleocr.bj.bcebos.com/PP-OCRv3/english/{DETECTION}.tar",
    f"https://paddleocr.bj.bcebos.com/PP-OCRv4/english/{RECOGNITION}.tar",
)
INSTALL = "install the extra star-bench[paddleocr] in an environment of its own (it needs numpy 1)"


class PaddleOcrSettings(Strict):
    """What can change the text that is read. Defaults are PaddleOCR 2.9.1's, with which Flow-GRPO reads."""

    det_limit_side_len: int = Field(default=960, ge=32)
    """Larger pictures are shrunk to this longer side for detection."""
    drop_score: float = Field(default=0.5, ge=0, le=1)
    """Strings that are recognised with less confidence are not read."""


class PaddleOcr:
    """The Recogniser "paddleocr". Raises UsageError where it is not installed, Refused for another version than 2.9.1."""

    implementation = "PaddleOCR en_PP-OCRv3_det + en_PP-OCRv4_rec"
    licence = "Apache-2.0"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = parse(PaddleOcrSettings, dict(settings), "judges.settings of paddleocr")
        installed = _version("paddleocr")
        self.paddle = _version("paddlepaddle", "paddlepaddle-gpu")
        if installed is None or self.paddle is None:
            missing = "paddleocr" if installed is None else "paddlepaddle"
            raise UsageError(f"{missing} is not installed", INSTALL)
        if installed != VERSION:
            raise Refused(
                f"paddleocr {installed} is not {VERSION}, which the published numbers were read with", INSTALL
            )
        self.version = installed

    def read(self, image: Image) -> list[str]:
        """The strings in an image (H, W, 3) uint8 RGB, from top to bottom. Raises MissingWeights."""
        (found,) = self._engine.ocr(image, cls=False)
        return [text for _, (text, _) in found or []]

    def judges(self) -> dict[str, str]:
        return {
            "paddleocr": self.version,
            "paddlepaddle": str(self.paddle),
            "paddleocr settings": digest_of(self.settings.model_dump()),
            **{f"{folder.name}/{name}": sha256_of(folder / name) for folder in self._folders for name in FILES},
        }

    @cached_property
    def _folders(self) -> tuple[Path, Path]:
        """Of the detection and the recognition model, complete."""
        home = weights_folder() / "paddleocr"
        folders = home / DETECTION, home / RECOGNITION
        missing = [path for folder in folders for name in FILES if not (path := folder / name).is_file()]
        if missing:
            raise MissingWeights(
                f"PaddleOCR's {', '.join(str(path) for path in missing)} are not there",
                f"unpack {' and '.join(SOURCES)} in {home}",
            )
        return folders

    @cached_property
    def _engine(self) -> Any:
        detection, recognition = map(str, self._folders)
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for newer versions of itself
        from paddleocr import PaddleOCR

        return PaddleOCR(
            lang="en",
            det_model_dir=detection,
            rec_model_dir=recognition,
            cls_model_dir=detection,  # never loaded, but a folder without a model would be filled from the network
            use_angle_cls=False,
            use_gpu=False,
            show_log=False,
            det_limit_side_len=self.settings.det_limit_side_len,
            drop_score=self.settings.drop_score,
        )


def _version(*names: str) -> str | None:
    """Of the first of these packages that is installed."""
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
