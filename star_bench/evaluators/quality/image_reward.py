"""ImageReward-v1.0 (arXiv:2304.05977): a BLIP that learned from people's rankings. About 0 on average, spread about 1."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import PIL.Image

from star_bench.assets.weights import WeightsReference
from star_bench.catalogue.cards import Strict
from star_bench.errors import Refused
from star_bench.evaluators.base import Cut, Prompt
from star_bench.evaluators.quality import checkpoint
from star_bench.evaluators.quality.blip_sizes import Sizes
from star_bench.evaluators.quality.measure import About, ImageMeasure, Picture
from star_bench.evaluators.tokens import cut_by, read_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"
TOKENS = 35
"""Shorter prompts are padded to so many, longer ones cut, as the published code does."""


class ImageRewardCard(Strict):
    """`weights` is a folder with the checkpoint and the tokenizer.json of bert-base-uncased."""

    kind: Literal["image_reward"]
    name: str
    weights: WeightsReference
    sizes: Sizes = Sizes()


class ImageReward(ImageMeasure):
    def __init__(self, card: ImageRewardCard, licence: str, device: str) -> None:
        self.card = card
        self.device = device
        self.about = About(
            name=card.name,
            kind=card.kind,
            unit="standardised reward",
            implementation="transformers BLIP",
            licence=licence,
            paper="arXiv:2304.05977",
            better="higher",
        )

    def files(self) -> dict[str, Path]:
        weights, name = self.card.weights, self.about.name
        model, tokenizer = checkpoint.find(weights), weights.folder / TOKENIZER_FILE
        if not tokenizer.is_file():
            raise checkpoint.missing(weights, f"the {TOKENIZER_FILE} of bert-base-uncased, which {name} needs,")
        return {name: model, f"{name} tokenizer": tokenizer}

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        path = self.card.weights.folder / TOKENIZER_FILE
        tokenizer = read_tokenizer(path, TOKENS)
        padding = tokenizer.token_to_id("[PAD]")
        if padding is None or tokenizer.get_vocab_size() > self.card.sizes.vocabulary:
            raise Refused(f"{path} is not the tokenizer of {self.about.name}", "put that of bert-base-uncased there")
        tokenizer.enable_padding(length=TOKENS, pad_id=padding, pad_token="[PAD]")
        return tokenizer

    def cut(self, prompts: Sequence[Prompt]) -> Cut:
        return cut_by(self.about.name, self._tokenizer, prompts)

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """(model, preprocess)."""
        import open_clip

        from star_bench.evaluators.quality.blip import UNUSED, ImageRewardModel, published_name

        model = ImageRewardModel(self.card.sizes)
        checkpoint.fit(model, checkpoint.find(self.card.weights), name=published_name, unused=UNUSED)
        # The published code prepares pictures as CLIP does, with CLIP's mean and spread.
        preprocess = open_clip.image_transform(self.card.sizes.image, is_train=False)
        return model.to(self.device).eval().requires_grad_(False), preprocess

    def value(self, picture: Picture) -> float:
        import torch

        model, preprocess = self._parts
        words = self._tokenizer.encode(picture.prompt)
        pixels = preprocess(PIL.Image.fromarray(picture.pixels))[None].to(self.device)
        ids, mask = (torch.tensor([row], device=self.device) for row in (words.ids, words.attention_mask))
        with torch.inference_mode():
            return float(model(pixels, ids, mask))
