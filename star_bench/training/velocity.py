"""SD3's transformer as a velocity field under classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from star_bench.generation.sampler import Embedding

TIMESTEPS = 1000  # SD3's transformer takes sigma in thousandths


@dataclass(frozen=True)
class Conditioning:
    """What B samples are asked for: tokens (B, L, D) and pooled (B, P)."""

    tokens: Tensor
    pooled: Tensor

    @classmethod
    def of(cls, embeddings: Sequence[Embedding]) -> Conditioning:
        """One row per embedding."""
        return cls(torch.cat([e.tokens for e in embeddings]), torch.cat([e.pooled for e in embeddings]))


class GuidedVelocity:
    """Two forwards of one shape give the same bits for the same sample."""

    def __init__(self, transformer: Any, *, guidance_scale: float, against: Embedding) -> None:
        """against: the negative prompt. A guidance scale of 1 or less runs the conditional branch alone."""
        self.transformer = transformer
        self.guidance_scale = guidance_scale
        self.against = against

    @property
    def is_guided(self) -> bool:
        return self.guidance_scale > 1

    def image_tokens(self, latent_shape: tuple[int, int, int]) -> int:
        """How many tokens the transformer makes of (C, H, W) latents."""
        patch: int = self.transformer.config.patch_size
        return (latent_shape[1] // patch) * (latent_shape[2] // patch)

    def conditional_rows(self, count: int) -> slice:
        """Where the samples themselves stand in a forward of `count` samples: [uncond, cond] under guidance."""
        return slice(count, 2 * count) if self.is_guided else slice(0, count)

    def velocity(self, x: Tensor, sigma: Tensor, asked: Conditioning) -> Tensor:
        """(B, C, H, W) float32. x: (B, C, H, W); sigma: (B,). Under guidance the gradient flows through both branches."""
        tokens, pooled, repeat = asked.tokens, asked.pooled, 1
        if self.is_guided:
            count, repeat = len(x), 2
            tokens = torch.cat([self.against.tokens.expand(count, -1, -1), tokens])
            pooled = torch.cat([self.against.pooled.expand(count, -1), pooled])
        out = self.transformer(
            hidden_states=x.to(self.transformer.dtype).repeat(repeat, 1, 1, 1),
            timestep=(sigma.to(x.device) * TIMESTEPS).repeat(repeat),
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            return_dict=False,
        )[0].float()
        if not self.is_guided:
            return out
        without, within = out.chunk(2)
        return without + self.guidance_scale * (within - without)
