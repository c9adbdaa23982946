"""HPSv2.1 (arXiv:2306.09341): a CLIP ViT-H/14 fine-tuned on which of two pictures people prefer. Typical: 0.2 to 0.35.

Its benchmark prints 100 x the cosine; this is the cosine. Unlike other CLIPs it sees the whole picture, scaled to fit and
padded with black, and scaled as floating point numbers. Here that is done with antialiasing, as the published code does
with torchvision 0.17 or newer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from star_bench.assets.weights import WeightsReference
from star_bench.catalogue.cards import Strict, did_you_mean
from star_bench.errors import UsageError
from star_bench.evaluators.base import Cut, Image, Prompt
from star_bench.evaluators.quality import checkpoint
from star_bench.evaluators.quality.measure import About, ImageMeasure, Picture
from star_bench.evaluators.tokens import cut_by_open_clip

if TYPE_CHECKING:
    from torch import Tensor


class HpsCard(Strict):
    kind: Literal["hps"]
    name: str
    model: str = "ViT-H-14"  # what HPSv2 was trained from
    """open_clip's name of the architecture."""
    weights: WeightsReference


def fitted(pixels: Image, side: int) -> Tensor:
    """(3, side, side) in [0, 1]: the whole picture (H, W, 3) in the middle, bicubic, on black."""
    import torch
    from torch.nn import functional as F

    picture = torch.tensor(pixels).permute(2, 0, 1).float() / 255
    scale = side / max(picture.shape[1:])
    height, width = (round(length * scale) for length in picture.shape[1:])
    if (height, width) != picture.shape[1:]:
        picture = F.interpolate(picture[None], (height, width), mode="bicubic", antialias=True)[0]
    left, top = (side - width) // 2, (side - height) // 2
    return F.pad(picture, (left, side - width - left, top, side - height - top))


class Hps(ImageMeasure):
    def __init__(self, card: HpsCard, licence: str, device: str) -> None:
        self.card = card
        self.device = device
        self.about = About(
            name=card.name,
            kind=card.kind,
            unit="cosine",
            implementation=f"open_clip {card.model}",
            licence=licence,
            paper="arXiv:2306.09341",
            better="higher",
        )

    def files(self) -> dict[str, Path]:
        return {self.about.name: checkpoint.find(self.card.weights)}

    @cached_property
    def _config(self) -> dict[str, Any]:
        """Raises UsageError for an architecture that open_clip does not know."""
        import open_clip

        config: dict[str, Any] | None = open_clip.get_model_config(self.card.model)
        if config is None:
            known = did_you_mean(self.card.model, open_clip.list_models())
            raise UsageError(f"open_clip knows no model {self.card.model!r}, which {self.about.name} asks for", known)
        return config

    @cached_property
    def _tokenizer(self) -> Any:
        import open_clip

        return open_clip.get_tokenizer(self.card.model) if self._config else None

    def cut(self, prompts: Sequence[Prompt]) -> Cut:
        return cut_by_open_clip(self.about.name, self._tokenizer, prompts)

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """(model, normalise)."""
        config = self._config
        import open_clip
        from torchvision.transforms import Normalize

        model = open_clip.CLIP(**config)
        checkpoint.fit(model, checkpoint.find(self.card.weights))
        normalise = Normalize(open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        return model.to(self.device).eval().requires_grad_(False), normalise

    def value(self, picture: Picture) -> float:
        import torch

        model, normalise = self._parts
        pixels = normalise(fitted(picture.pixels, model.visual.image_size[0]))[None]
        with torch.inference_mode():
            seen = model.encode_image(pixels.to(self.device))
            read = model.encode_text(self._tokenizer([picture.prompt]).to(self.device))
            return float(torch.cosine_similarity(seen, read))
