"""The names of the original latent diffusion UNet's layers in diffusers' words, both with _ for every dot. kohya's scripts
train SDXL under the former; the mapping is diffusers' own (its scripts/convert_original_stable_diffusion_to_diffusers.py).
"""

from __future__ import annotations

import re
from typing import Final

_BLOCK = re.compile(r"(input|output)_blocks_(\d+)_(\d)_(.+)")
_MIDDLE = re.compile(r"middle_block_([012])_(.+)")
_MIDDLES: Final = ("resnets_0", "attentions_0", "resnets_1")
_SINGLE: Final = {
    "input_blocks_0_0": "conv_in",
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
    "out_2": "conv_out",
}
_IN_RESNET: Final = {
    "in_layers_2": "conv1",
    "emb_layers_1": "time_emb_proj",
    "out_layers_3": "conv2",
    "skip_connection": "conv_shortcut",
}


def to_diffusers(name: str, layers_per_block: int) -> str:
    """A name that is none of the original UNet's stays what it is. layers_per_block: as the UNet's config has it."""
    if middle := _MIDDLE.fullmatch(name):
        return f"mid_block_{_MIDDLES[int(middle[1])]}_{_IN_RESNET.get(middle[2], middle[2])}"
    if (block := _BLOCK.fullmatch(name)) is None:
        return _SINGLE.get(name, name)
    way, number, inner, rest = block[1], int(block[2]), int(block[3]), block[4]
    if way == "input":
        number -= 1  # the first is conv_in
    outer, layer = divmod(number, layers_per_block + 1)
    side = "down" if way == "input" else "up"
    if rest in ("op", "conv"):
        return f"{side}_blocks_{outer}_{side}samplers_0_conv"
    return f"{side}_blocks_{outer}_{('resnets', 'attentions')[min(inner, 1)]}_{layer}_{_IN_RESNET.get(rest, rest)}"
