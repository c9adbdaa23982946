"""A CLIP that several measures of the panel share."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image

from star_bench.assets.weights import WeightsReference
from star_bench.catalogue.cards import Strict
from star_bench.errors import Refused
from star_bench.evaluators.base import Image
from star_bench.evaluators.pickscore.backends import OPEN_CLIP_FILES, OpenClipBackend, OpenClipJudge
from star_bench.files.json import read_config

if TYPE_CHECKING:
    from torch import Tensor


class ClipCard(Strict):
    """A CLIP in open_clip's local folder layout. quick_gelu: the activation that it must have been built with."""

    weights: WeightsReference
    quick_gelu: bool


class Clip(OpenClipBackend):
    """Loaded once per card, whoever asks first. `name` is the card's."""

    def __init__(self, name: str, card: ClipCard, licence: str, device: str) -> None:
        super().__init__(OpenClipJudge(backend="open_clip", metric=name, weights=card.weights), device)
        self.name = name
        self.card = card
        self.licence = licence

    @cached_property
    def folder(self) -> Path:
        """Raises MissingWeights, and Refused for a model that was built with the other activation: OpenAI's CLIPs with
        plain GELU give other features and no error."""
        folder = self._folder
        if bool(_config(folder).get("quick_gelu")) != self.card.quick_gelu:
            asked, got = ("QuickGELU", "GELU") if self.card.quick_gelu else ("GELU", "QuickGELU")
            raise Refused(
                f"the CLIP in {folder} is built with {got} and the suite asks for {asked}",
                f'write "quick_gelu": {str(self.card.quick_gelu).lower()} into its open_clip_config.json',
            )
        return folder

    @property
    def width(self) -> int:
        """Of the features."""
        return int(_config(self.folder)["embed_dim"])

    def image_features(self, pixels: Image) -> Tensor:
        """(1, D) float32, of length one, for a picture (H, W, 3)."""
        import torch

        with torch.inference_mode():
            return torch.nn.functional.normalize(self._image(PIL.Image.fromarray(pixels)).float(), dim=-1)


def _config(folder: Path) -> dict[str, Any]:
    """open_clip's model_cfg. Raises UsageError and Refused for a file that is not open_clip's."""
    path = folder / OPEN_CLIP_FILES[0]
    config = read_config(path).get("model_cfg")
    if not isinstance(config, dict) or "embed_dim" not in config:
        raise Refused(f"{path} has no model_cfg with an embed_dim", "put a folder that open_clip wrote there")
    return config
