"""ImageReward's network, by transformers' BLIP: the published checkpoint has BLIP's own names.

The pictures' tokens enter every layer of the text encoder by cross attention, and a head reads the first text token.
transformers' defaults differ from BLIP's where it would show: 8 heads in the text encoder, and 1e-5 in the layer norms
of the vision encoder.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import Tensor, nn
from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from star_bench.evaluators.quality.linear_head import LinearHead

if TYPE_CHECKING:
    from star_bench.evaluators.quality.blip_sizes import Sizes

MEAN = 0.16717362830052426
STD = 1.0333394966054072
"""Of the published model's rewards over its training data, as its code has them."""

UNUSED = (
    "blip.text_encoder.embeddings.position_ids",
    *(f"blip.{kind}_proj.{part}" for kind in ("vision", "text") for part in ("weight", "bias")),
)
"""In the checkpoint and in no reward: numbers from 0 to 511, and the projections of BLIP's contrastive training."""

NAMES = (
    (r"^vision\.embeddings\.class_embedding$", "blip.visual_encoder.cls_token"),
    (r"^vision\.embeddings\.position_embedding$", "blip.visual_encoder.pos_embed"),
    (r"^vision\.embeddings\.patch_embedding\.", "blip.visual_encoder.patch_embed.proj."),
    (r"^vision\.post_layernorm\.", "blip.visual_encoder.norm."),
    (r"^vision\.encoder\.layers\.(\d+)\.layer_norm", r"blip.visual_encoder.blocks.\1.norm"),
    (r"^vision\.encoder\.layers\.(\d+)\.self_attn\.projection\.", r"blip.visual_encoder.blocks.\1.attn.proj."),
    (r"^vision\.encoder\.layers\.(\d+)\.self_attn\.", r"blip.visual_encoder.blocks.\1.attn."),
    (r"^vision\.encoder\.layers\.", "blip.visual_encoder.blocks."),
    (r"^text\.", "blip.text_encoder."),
    (r"^head\.", "mlp."),
)
"""(transformers', BLIP's); the first that fits counts."""


def published_name(own: str) -> str:
    """What the checkpoint calls a tensor of `ImageRewardModel`."""
    return next(re.sub(pattern, name, own) for pattern, name in NAMES if re.search(pattern, own))


class ImageRewardModel(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.vision = BlipVisionModel(
            BlipVisionConfig(
                image_size=sizes.image,
                patch_size=sizes.patch,
                hidden_size=sizes.vision_width,
                intermediate_size=4 * sizes.vision_width,
                num_hidden_layers=sizes.vision_layers,
                num_attention_heads=sizes.vision_heads,
                layer_norm_eps=1e-6,
            )
        )
        self.text = BlipTextModel(
            BlipTextConfig(
                vocab_size=sizes.vocabulary,
                hidden_size=sizes.text_width,
                encoder_hidden_size=sizes.vision_width,
                intermediate_size=4 * sizes.text_width,
                num_hidden_layers=sizes.text_layers,
                num_attention_heads=sizes.text_heads,
                max_position_embeddings=sizes.positions,
                layer_norm_eps=1e-12,
            ),
            add_pooling_layer=False,
        )
        self.head = LinearHead(sizes.text_width)

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Rewards (B,) for pixels (B, 3, image, image), normalised, and tokens (B, L) with their mask."""
        seen = self.vision(pixels).last_hidden_state
        read = self.text(ids, attention_mask=mask, encoder_hidden_states=seen).last_hidden_state
        rewards: Tensor = (self.head(read[:, 0]) - MEAN) / STD
        return rewards
