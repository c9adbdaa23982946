"""EasyOCR's English reader (CRAFT finds the text, a CRNN reads it) as a recogniser. An extra: star-bench[easyocr].

Its weights are pickles. Only the two published files are taken, by sha256, and torch is told to load nothing but
tensors from them, whatever EasyOCR asks for. Nothing is downloaded.
"""

from __future__ import annotations

import os
import warnings
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

WEIGHTS = {  # of the files whose md5 EasyOCR 1.7.2 asks for
    "craft_mlt_25k.pth": "4a5efbfb48b4081100544e75e1e2b57f8de3d84f213004b14b85fd4b3748db17",
    "english_g2.pth": "e2272681d9d67a04e2dff396b6e95077bc19001f8f6d3593c307b9852e1c29e8",
}
SOURCE = "https://github.com/JaidedAI/EasyOCR/releases/download"
ARCHIVES = f"{SOURCE}/pre-v1.1.6/craft_mlt_25k.zip and {SOURCE}/v1.3/english_g2.zip"


class EasyOcrSettings(Strict):
    """What can change the text that is read. All else is EasyOCR's default."""

    drop_score: float = Field(default=0.0, ge=0, le=1)
    """Strings that are recognised with less confidence are not read; EasyOCR itself drops none."""


class EasyOcr:
    """The Recogniser "easyocr". Raises UsageError where EasyOCR is not installed."""

    implementation = "easyocr craft_mlt_25k + english_g2, float32"
    licence = "Apache-2.0"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = parse(EasyOcrSettings, dict(settings), "judges.settings of easyocr")
        try:
            self.version = version("easyocr")
        except PackageNotFoundError:
            raise UsageError("easyocr is not installed", "install the extra star-bench[easyocr]") from None

    def read(self, image: Image) -> list[str]:
        """The strings in an image (H, W, 3) uint8 RGB, in EasyOCR's order. Raises MissingWeights, Refused."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*pin_memory", category=UserWarning)  # for GPUs only
            found = self._engine.readtext(image)
        return [text for _, text, score in found if score >= self.settings.drop_score]

    def judges(self) -> dict[str, str]:
        return {
            "easyocr": self.version,
            "easyocr settings": digest_of(self.settings.model_dump()),
            **{path.name: WEIGHTS[path.name] for path in self._weights},
        }

    @cached_property
    def _weights(self) -> list[Path]:
        """Both files, checked."""
        places = [weights_folder() / "easyocr", _own_folder()]
        for folder in places:
            paths = [folder / name for name in WEIGHTS]
            if all(path.is_file() for path in paths):
                break
        else:
            raise MissingWeights(
                f"EasyOCR's {' and '.join(WEIGHTS)} are not on this machine",
                f"unpack {ARCHIVES} in {places[0]}",
            )
        for path in paths:
            if sha256_of(path) != WEIGHTS[path.name]:
                raise Refused(f"{path} is not the file that EasyOCR publishes", f"replace it by that in {ARCHIVES}")
        return paths

    @cached_property
    def _engine(self) -> Any:
        folder = str(self._weights[0].parent)
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # EasyOCR asks for weights_only=False
        import easyocr

        return easyocr.Reader(
            ["en"],
            gpu=False,
            quantize=False,  # chosen here: quantised arithmetic differs between kinds of processor
            model_storage_directory=folder,
            user_network_directory=folder,  # by default a folder at home, which it would make
            download_enabled=False,
            verbose=False,
        )


def _own_folder() -> Path:
    """Where EasyOCR itself keeps weights."""
    home = os.environ.get("EASYOCR_MODULE_PATH") or os.environ.get("MODULE_PATH") or Path.home() / ".EasyOCR"
    return Path(home) / "model"
