"""How large a BLIP is, as a card says it: read without torch."""

from __future__ import annotations

from star_bench.catalogue.cards import Strict


class Sizes(Strict):
    """Of the network. Defaults: ImageReward-v1.0's med_config.json, and the ViT-L/16 that BLIP calls large."""

    image: int = 224
    patch: int = 16
    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    vocabulary: int = 30524  # BERT's, [DEC] and [ENC]
    positions: int = 512
